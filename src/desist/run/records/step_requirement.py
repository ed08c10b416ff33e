"""`StepRequirement` and `ErrorRequirement`: what a paused run of a workflow waits for, as programs see and answer it.

`desist.workflow.types` is the public import path. As for `RunRequirement`, the methods only fill in an answer;
`continue_run` gives it to the store, which decides whether it is the first one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar

from desist.exceptions import ConfigurationError
from desist.run.records.ids import new_uuid
from desist.run.records.json_values import to_json_value
from desist.run.records.record import Record, Reviver, list_of, record_class, reviver
from desist.run.records.run_requirement import RunRequirement

if TYPE_CHECKING:
    from desist.run.records.requirement import Answer, Requirement

__all__ = ["ErrorRequirement", "StepRequirement"]

_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "list": "array", "dict": "object"}


@record_class
class _WorkflowRequirement(Record):
    id: str = field(default_factory=lambda: new_uuid().hex)
    path: str = ""  #: the position of the step in its run
    step_id: str | None = None
    step_name: str | None = None
    step_index: Any = None
    step_type: str | None = None
    digest: str | None = None  #: of what was shown
    by: str | None = None  #: who has answered
    answered_at: float | None = None  #: when the answer was accepted; seconds since the epoch
    state: str = "open"  #: "open", "answered", "expired" or "closed"

    def _need(self, needed: bool, what: str) -> None:
        if self.state != "open":
            by = f" by {self.by}" if self.by else ""
            raise ConfigurationError(f"requirement {self.id!r} can't be answered any more: it is {self.state}{by}")
        if not needed:
            raise ConfigurationError(f"step {self.step_name!r} does not wait for {what}")


@record_class
class StepRequirement(_WorkflowRequirement):
    """One thing that a step waits for."""

    requires_confirmation: bool = False
    confirmation_message: str | None = None
    confirmed: bool | None = None
    on_reject: str = "cancel"
    requires_user_input: bool = False
    user_input_message: str | None = None
    user_input_schema: list[dict[str, Any]] | None = None
    user_input: dict[str, Any] | None = None
    requires_route_selection: bool = False
    available_choices: list[str] | None = None
    allow_multiple_selections: bool = False
    selected_choices: list[str] | None = None
    requires_output_review: bool = False
    output_review_message: str | None = None
    is_post_execution: bool = False
    rejection_feedback: str | None = None
    retry_count: int = 0
    max_retries: int = 3
    timeout_at: str | None = None  #: until when an answer counts; ISO text
    on_timeout: str = "cancel"
    step_input: Any = None
    step_output: Any = None
    edited_output: Any = None
    requires_executor_input: bool = False
    executor_requirements: list[RunRequirement] | None = None
    executor_id: str | None = None
    executor_name: str | None = None
    executor_run_id: str | None = None
    executor_type: str | None = None
    executor_session_id: str | None = None

    _revivers: ClassVar[Mapping[str, Reviver]] = {"executor_requirements": list_of(reviver(RunRequirement))}

    # -- what is needed

    @property
    def needs_confirmation(self) -> bool:
        """Whether it waits for `confirm` or `reject`."""
        return self.state == "open" and self.requires_confirmation and self.confirmed is None

    @property
    def needs_user_input(self) -> bool:
        """Whether it waits for values."""
        return self.state == "open" and self.requires_user_input and self.user_input is None and self.confirmed is None

    @property
    def needs_route_selection(self) -> bool:
        """Whether it waits for chosen steps."""
        return self.state == "open" and self.requires_route_selection and self.selected_choices is None

    @property
    def needs_output_review(self) -> bool:
        """Whether it waits for `confirm`, `edit` or `reject` of an output."""
        return self.state == "open" and self.requires_output_review and self.confirmed is None

    @property
    def needs_executor_input(self) -> bool:
        """Whether the agent of the step waits for answers: see `executor_requirements`."""
        return self.requires_executor_input and any(not one.is_resolved() for one in self.executor_requirements or ())

    @property
    def is_resolved(self) -> bool:
        """Whether it has an answer, here or in the store."""
        needs = self.needs_confirmation or self.needs_user_input or self.needs_route_selection
        return not (needs or self.needs_output_review or self.needs_executor_input)

    # -- answering

    def confirm(self, by: str | None = None) -> None:
        """Say that the step may run, or that its output is good.

        Raises:
            ConfigurationError: no confirmation is needed.
        """
        self._need(self.needs_confirmation or self.needs_output_review, "a confirmation")
        self.confirmed, self.by = True, by or self.by

    def reject(self, feedback: str | None = None, by: str | None = None) -> None:
        """Say that the step must not run, or that its output is not good; `on_reject` says what follows.

        Raises:
            ConfigurationError: nothing can be rejected.
        """
        needed = self.needs_confirmation or self.needs_output_review or self.needs_user_input
        self._need(needed, "a confirmation")
        self.confirmed, self.rejection_feedback, self.by = False, feedback, by or self.by

    def edit(self, new_output: Any, by: str | None = None) -> None:
        """Accept the step with another content of its output.

        Raises:
            ConfigurationError: no output is reviewed.
        """
        self._need(self.needs_output_review, "a review of its output")
        self.confirmed, self.edited_output, self.by = True, new_output, by or self.by

    def set_user_input(self, validate: bool = True, **values: Any) -> None:
        """Give the values, by name.

        Raises:
            ConfigurationError: no values are needed, or with `validate` one is missing or of a wrong type.
        """
        from desist.run.records.requirement import Answer, check_answer

        self._need(self.requires_user_input and self.state == "open", "values")
        if validate:
            check_answer(self.as_stored("", ""), Answer(decision="input", values=values))
        self.user_input = dict(values)

    def select(self, *names: str) -> None:
        """Choose the steps that run.

        Raises:
            ConfigurationError: nothing is to be chosen, or a name is no choice.
        """
        from desist.run.records.requirement import Answer, check_answer

        self._need(self.requires_route_selection and self.state == "open", "a choice")
        check_answer(self.as_stored("", ""), Answer(decision="select", values={"choices": list(names)}))
        self.selected_choices = list(names)

    def select_single(self, name: str) -> None:
        """Choose the step that runs."""
        self.select(name)

    def select_multiple(self, names: Sequence[str]) -> None:
        """Choose the steps that run, in their order."""
        self.select(*names)

    # -- for the store

    @property
    def kind(self) -> str:
        """The kind of requirement, as the store knows it."""
        if self.requires_route_selection:
            return "route_selection"
        if self.requires_output_review:
            return "output_review"
        return "step_input" if self.requires_user_input else "step_confirmation"

    def as_stored(self, run_id: str, root_run_id: str, deadline: float | None = None) -> Requirement:
        """Return the requirement as a store decides about it."""
        from desist.run.records.requirement import Requirement, digest_of

        if deadline is not None:
            self.timeout_at = dt.datetime.fromtimestamp(deadline, dt.UTC).isoformat()
        asked = {
            "step_name": self.step_name,
            "message": self.confirmation_message or self.user_input_message or self.output_review_message,
            "choices": self.available_choices,
            "output": to_json_value(getattr(self.step_output, "content", None)),
        }
        shown = {name: value for name, value in asked.items() if value is not None}
        self.digest = self.digest or digest_of(self.step_name, shown)
        return Requirement(
            requirement_id=self.id,
            run_id=run_id,
            root_run_id=root_run_id,
            kind=self.kind,
            asked=shown,
            digest=self.digest,
            schema=self._schema(),
            deadline=deadline,
            on_timeout=self.on_timeout if deadline is not None else None,
        )

    def _schema(self) -> dict[str, Any] | None:
        if self.requires_route_selection:
            return {"choices": list(self.available_choices or ()), "many": self.allow_multiple_selections}
        if not self.requires_user_input:
            return None
        made: dict[str, Any] = {}
        for one in self.user_input_schema or ():
            prop: dict[str, Any] = {"type": _TYPES.get(str(one.get("field_type") or "str"), "string")}
            if one.get("allowed_values"):
                prop["enum"] = list(one["allowed_values"])
            made[one["name"]] = prop
        required = [one["name"] for one in self.user_input_schema or () if one.get("required", True)]
        return {"properties": made, "required": required, "additionalProperties": not made}

    def to_answer(self) -> Answer | None:
        """Return the answer that this object holds, or None if it holds none, or it was accepted already."""
        from desist.run.records.requirement import Answer

        if self.state != "open" or self.requires_executor_input:
            return None
        by, digest = self.by, self.digest
        if self.confirmed is False:
            return Answer(decision="reject", by=by, note=self.rejection_feedback, digest=digest)
        if self.requires_route_selection:
            if self.selected_choices is None:
                return None
            return Answer(decision="select", by=by, values={"choices": self.selected_choices}, digest=digest)
        if self.requires_user_input:
            if self.user_input is None:
                return None
            return Answer(decision="input", by=by, values=self.user_input, digest=digest)
        if self.edited_output is not None:
            return Answer(decision="edit", by=by, arguments={"output": self.edited_output}, digest=digest)
        return Answer(decision="confirm", by=by, digest=digest) if self.confirmed else None

    def apply(self, stored: Requirement) -> None:
        """Take over the answer that the store has accepted."""
        self.state, self.by, self.answered_at = stored.state, stored.by, stored.at
        answer = stored.answer or {}
        decision = answer.get("decision")
        if decision is not None:
            self.confirmed = decision != "reject"
        self.rejection_feedback = answer.get("note", self.rejection_feedback)
        if decision == "input":
            self.user_input = answer["values"]
        elif decision == "select":
            self.selected_choices = answer["values"]["choices"]
        elif decision == "edit":
            self.edited_output = answer["arguments"]["output"]


@record_class
class ErrorRequirement(_WorkflowRequirement):
    """A step that has failed, with on_error="pause": try again, or go on without it."""

    error_message: str = ""
    error_type: str | None = None
    retry_count: int = 0
    decision: str | None = None  #: "retry" or "skip"

    kind: ClassVar[str] = "step_error"

    @property
    def needs_decision(self) -> bool:
        """Whether it waits for `retry` or `skip`."""
        return self.state == "open" and self.decision is None

    @property
    def is_resolved(self) -> bool:
        """Whether it has an answer, here or in the store."""
        return not self.needs_decision

    def retry(self, by: str | None = None) -> None:
        """Run the step again."""
        self._need(self.needs_decision, "a decision")
        self.decision, self.by = "retry", by or self.by

    def skip(self, by: str | None = None) -> None:
        """Go on with the next step; the failure stays recorded."""
        self._need(self.needs_decision, "a decision")
        self.decision, self.by = "skip", by or self.by

    def as_stored(self, run_id: str, root_run_id: str, deadline: float | None = None) -> Requirement:
        """Return the requirement as a store decides about it."""
        from desist.run.records.requirement import Requirement, digest_of

        asked = {"step_name": self.step_name, "error": self.error_message}
        self.digest = self.digest or digest_of(self.step_name, asked)
        return Requirement(
            requirement_id=self.id,
            run_id=run_id,
            root_run_id=root_run_id,
            kind=self.kind,
            asked=asked,
            digest=self.digest,
            deadline=deadline,
        )

    def to_answer(self) -> Answer | None:
        """Return the answer that this object holds, or None."""
        from desist.run.records.requirement import Answer

        if self.state != "open" or self.decision is None:
            return None
        return Answer(decision=self.decision, by=self.by, digest=self.digest)

    def apply(self, stored: Requirement) -> None:
        """Take over the answer that the store has accepted."""
        self.state, self.by, self.answered_at = stored.state, stored.by, stored.at
        self.decision = (stored.answer or {}).get("decision")
