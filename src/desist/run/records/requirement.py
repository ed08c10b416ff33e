"""`Requirement`: what a paused run waits for, and the decision about an answer. Pure: no lock, no clock, no I/O.

A requirement is answered once. `decide` compares an answer with the requirement as it is; each store makes the same
comparison in one step that no other answer, cancel or deadline can interrupt: under a lock, or as the condition of one
`UPDATE` statement.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any

from desist.exceptions import ConfigurationError
from desist.run.records.json_values import to_json_value

__all__ = [
    "DECISIONS",
    "Answer",
    "AnswerOutcome",
    "AnswerReceipt",
    "Requirement",
    "RequirementState",
    "check_answer",
    "decide",
    "digest_of",
    "resolve_timeout",
]


class RequirementState(str, Enum):
    """The state of a requirement. It leaves `open` once."""

    open = "open"
    answered = "answered"
    expired = "expired"  #: its deadline passed first; `on_timeout` says what that means
    closed = "closed"  #: the run ended first


class AnswerOutcome(str, Enum):
    """How an answer was received."""

    accepted = "accepted"
    already_answered = "already_answered"
    expired = "expired"
    run_ended = "run_ended"
    stale = "stale"  #: it was given for other arguments
    unknown = "unknown"  #: no such requirement


#: The decisions that each kind of requirement takes.
DECISIONS: Mapping[str, tuple[str, ...]] = {
    "confirmation": ("confirm", "reject", "edit"),
    "user_input": ("input", "reject"),
    "user_feedback": ("feedback", "reject"),
    "external_execution": ("result", "reject"),
    "step_confirmation": ("confirm", "reject"),
    "step_input": ("input", "reject"),
    "route_selection": ("select", "reject"),
    "output_review": ("confirm", "edit", "reject"),
    "step_error": ("retry", "skip"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A human's answer."""

    decision: str  #: one of `DECISIONS`
    by: str | None = None  #: who answers
    note: str | None = None  #: of a rejection, for the model
    arguments: dict[str, Any] | None = None  #: the edited arguments
    values: dict[str, Any] | None = None  #: by the names of the fields; of a feedback, the labels by the questions
    result: str | None = None  #: of what was executed elsewhere
    digest: str | None = None  #: of the arguments that were shown; None: not compared

    def to_dict(self) -> dict[str, Any]:
        """Return what is stored, as plain values, without what is None."""
        known = {"decision": self.decision, "note": self.note, "arguments": self.arguments}
        known |= {"values": self.values, "result": self.result}
        return {name: to_json_value(value) for name, value in known.items() if value is not None}


@dataclass(slots=True, kw_only=True)
class Requirement:
    """What a paused run waits for. The fields are the columns of its row, in their order."""

    requirement_id: str
    run_id: str
    root_run_id: str
    kind: str  #: a key of `DECISIONS`
    asked: dict[str, Any] = field(default_factory=dict)  #: what is shown: "tool_name", "tool_args", ...
    digest: str = ""  #: of the arguments that are shown
    schema: dict[str, Any] | None = None  #: the JSON schema of the expected arguments or input
    deadline: float | None = None  #: seconds since the epoch
    on_timeout: str | None = None  #: "cancel", "skip" or "approve"
    state: str = RequirementState.open.value
    answer: dict[str, Any] | None = None  #: as `Answer.to_dict` returns it
    by: str | None = None
    at: float | None = None  #: when it left the state `open`; seconds since the epoch

    @property
    def is_open(self) -> bool:
        """Whether it waits for an answer."""
        return self.state == RequirementState.open.value

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerReceipt:
    """The truthful answer to an answer. True if and only if it was accepted: then it will be acted on, once."""

    outcome: AnswerOutcome
    run_id: str
    requirement_id: str
    by: str | None = None  #: who answered first
    at: float | None = None  #: when that was; seconds since the epoch
    decision: str | None = None  #: of the answer that counts
    open: int = 0  #: how many requirements of the run are still open

    def __bool__(self) -> bool:
        return self.outcome is AnswerOutcome.accepted


def digest_of(tool_name: str | None, arguments: Mapping[str, Any] | None) -> str:
    """Return the digest of a call as it is shown to a human: equal for equal arguments, in any order of keys."""
    text = json.dumps([tool_name, to_json_value(dict(arguments or {}))], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def decide(
    requirement: Requirement | None, answer: Answer, now: float, *, run_ended: bool = False
) -> tuple[AnswerOutcome, Requirement | None]:
    """Decide about an answer; return the outcome and the requirement as it is then.

    Parameters:
        now: seconds since the epoch.
        run_ended: whether the run has ended, or was cancelled.
    """
    if requirement is None:
        return (AnswerOutcome.run_ended if run_ended else AnswerOutcome.unknown), None
    if requirement.state == RequirementState.answered.value:
        return AnswerOutcome.already_answered, requirement
    if requirement.state == RequirementState.expired.value:
        return AnswerOutcome.expired, requirement
    if run_ended or requirement.state == RequirementState.closed.value:
        return AnswerOutcome.run_ended, requirement
    if requirement.deadline is not None and requirement.deadline <= now:
        return AnswerOutcome.expired, requirement  # whoever fires the deadline decides what that means
    if answer.digest is not None and answer.digest != requirement.digest:
        return AnswerOutcome.stale, requirement
    state = RequirementState.answered.value
    return AnswerOutcome.accepted, replace(requirement, state=state, answer=answer.to_dict(), by=answer.by, at=now)


def resolve_timeout(requirement: Requirement, now: float) -> Requirement:
    """Return an open requirement whose deadline has passed as it is then. "cancel" has no answer: the run ends."""
    decision = {"approve": "confirm", "skip": "reject"}.get(requirement.on_timeout or "cancel")
    answer = None if decision is None else {"decision": decision}
    if decision == "reject":
        answer = {"decision": "reject", "note": "Nobody answered in time"}
    return replace(requirement, state=RequirementState.expired.value, answer=answer, by=None, at=now)


def check_answer(requirement: Requirement, answer: Answer) -> None:
    """Check that an answer fits a requirement: its decision, and the names and types of what it carries.

    Raises:
        ConfigurationError: the answer can't be used; nothing is stored.
    """
    where = f"requirement {requirement.requirement_id!r}"
    known = DECISIONS.get(requirement.kind, ())
    if answer.decision not in known:
        raise ConfigurationError(
            f"{where} waits for {requirement.kind}: the decision must be one of {', '.join(known)},"
            f" not {answer.decision!r}"
        )
    if answer.decision == "edit":
        if not isinstance(answer.arguments, Mapping):
            raise ConfigurationError(f"{where}: the decision 'edit' needs arguments=, a dict")
        _check_values(answer.arguments, requirement.schema, where)
    elif answer.arguments is not None:
        raise ConfigurationError(f"{where}: arguments= needs the decision 'edit', not {answer.decision!r}")
    if answer.decision in ("input", "feedback", "select"):
        if not isinstance(answer.values, Mapping):
            raise ConfigurationError(f"{where}: the decision {answer.decision!r} needs values=, a dict")
        if answer.decision == "input":
            _check_values(answer.values, requirement.schema, where)
        if answer.decision == "select":
            _check_choices(answer.values.get("choices"), requirement.schema or {}, where)
    if answer.decision == "result" and not isinstance(answer.result, str):
        raise ConfigurationError(f"{where}: the decision 'result' needs result=, a text, not {answer.result!r:.80}")


def _check_choices(chosen: Any, schema: Mapping[str, Any], where: str) -> None:
    known = schema.get("choices") or []
    if not isinstance(chosen, list) or not chosen or any(one not in known for one in chosen):
        raise ConfigurationError(f"{where}: choices must be names of {', '.join(known)}, not {chosen!r:.80}")
    if len(chosen) > 1 and not schema.get("many"):
        raise ConfigurationError(f"{where}: only one of {', '.join(known)} can be chosen, not {chosen!r:.80}")


_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list, tuple),
    "null": (type(None),),
}


def _check_values(values: Mapping[str, Any], schema: Mapping[str, Any] | None, where: str) -> None:
    """Check names and plain types. The tool itself validates the rest before it is called."""
    if schema is None:
        return
    properties: Mapping[str, Any] = schema.get("properties") or {}
    missing = [name for name in schema.get("required") or () if name not in values]
    unknown = [name for name in values if name not in properties]
    if missing:
        raise ConfigurationError(f"{where}: {', '.join(missing)} must be given")
    if unknown and schema.get("additionalProperties") is not True:
        raise ConfigurationError(f"{where}: {', '.join(unknown)} is not asked for; it takes {', '.join(properties)}")
    for name, value in values.items():
        prop = properties.get(name) or {}
        wanted = prop.get("type")
        names = [wanted] if isinstance(wanted, str) else list(wanted or ())
        types = tuple(kind for one in names for kind in _TYPES.get(one, (object,)))
        if types and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
            raise ConfigurationError(f"{where}: {name} must be of type {' or '.join(names)}, not {value!r:.80}")
        if "enum" in prop and value not in prop["enum"]:
            raise ConfigurationError(f"{where}: {name} must be one of {prop['enum']}, not {value!r:.80}")
