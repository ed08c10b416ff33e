"""`RunRequirement`: what a paused run of an agent waits for, as programs see and answer it.

`desist.run.requirement` is the public import path. `requirement` is imported by the methods that need it: the events
of a run may import this module, and most runs never pause. The methods only fill in an answer; `continue_run` gives it
to the store, which decides whether it is the first one. `desist.answer` does the same without an object.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar

from desist.exceptions import ConfigurationError
from desist.run.records.ids import new_uuid
from desist.run.records.message import ToolExecution, UserFeedbackQuestion, UserInputField
from desist.run.records.record import Record, Reviver, list_of, record_class, reviver

if TYPE_CHECKING:
    from desist.run.records.requirement import Answer, Requirement

__all__ = ["RunRequirement"]

_JSON_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "list": "array"}
_JSON_TYPES |= {"dict": "object"}


@record_class
class RunRequirement(Record):
    """One thing that a run waits for: a confirmation, values, or the result of a tool that is executed elsewhere."""

    id: str = field(default_factory=lambda: new_uuid().hex)
    created_at: float = field(default_factory=time.time)
    tool_execution: ToolExecution | None = None
    confirmation: bool | None = None
    confirmation_note: str | None = None
    user_input_schema: list[UserInputField] | None = None
    user_feedback_schema: list[UserFeedbackQuestion] | None = None
    external_execution_result: str | None = None
    member_agent_id: str | None = None
    member_agent_name: str | None = None
    member_run_id: str | None = None
    digest: str | None = None  #: of the arguments as they were shown
    by: str | None = None  #: who has answered
    answered_at: float | None = None  #: when the answer was accepted; seconds since the epoch
    state: str = "open"  #: "open", "answered", "expired" or "closed"
    edited: bool = False  #: whether the arguments were changed by the answer
    timeout_at: float | None = None  #: until when an answer counts; seconds since the epoch
    on_timeout: str | None = None  #: what happens then: "cancel", "skip" or "approve"

    _revivers: ClassVar[Mapping[str, Reviver]] = {
        "tool_execution": reviver(ToolExecution),
        "user_input_schema": list_of(reviver(UserInputField)),
        "user_feedback_schema": list_of(reviver(UserFeedbackQuestion)),
    }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunRequirement:
        """Create a requirement from plain values. A `confirmation` beside the tool counts for the tool, too."""
        made = super().from_dict(data)
        tool = made.tool_execution
        if tool is not None:
            nested = data.get("tool_execution") or {}
            said = nested.get("confirmed") if isinstance(nested, Mapping) else tool.confirmed
            made.confirmation = made.confirmation if said is None else bool(said)
            tool.confirmed = made.confirmation
            if made.user_input_schema is not None:
                tool.user_input_schema = made.user_input_schema
            if made.user_feedback_schema is not None:
                tool.user_feedback_schema = made.user_feedback_schema
        return made

    # -- what is needed

    def _wants(self, name: str) -> bool:
        return self.state == "open" and self.tool_execution is not None and bool(getattr(self.tool_execution, name))

    @property
    def needs_confirmation(self) -> bool:
        """Whether it waits for `confirm` or `reject`."""
        return self._wants("requires_confirmation") and self._confirmed is None

    @property
    def needs_user_input(self) -> bool:
        """Whether it waits for values."""
        wanted = self._wants("requires_user_input") and not self._wants("user_feedback_schema")
        tool = self.tool_execution
        if not wanted or tool is None or tool.answered or self._confirmed is False:
            return False
        return any(one.value is None for one in self.user_input_schema or tool.user_input_schema or ())

    @property
    def needs_user_feedback(self) -> bool:
        """Whether it waits for chosen options."""
        tool = self.tool_execution
        return self._wants("user_feedback_schema") and not (tool is not None and tool.answered)

    @property
    def needs_external_execution(self) -> bool:
        """Whether it waits for the result of a tool that the program executes."""
        wanted = self._wants("external_execution_required") and self._confirmed is not False
        tool = self.tool_execution
        return wanted and self.external_execution_result is None and tool is not None and tool.result is None

    @property
    def external_execution_silent(self) -> bool:
        """Whether the pause is not described in the content of the run."""
        return self.tool_execution is not None and bool(self.tool_execution.external_execution_silent)

    @property
    def pause_type(self) -> str:
        """The kind: "user_feedback", "external_execution", "user_input" or "confirmation"."""
        tool = self.tool_execution
        if tool is not None and tool.user_feedback_schema:
            return "user_feedback"
        if tool is not None and tool.external_execution_required:
            return "external_execution"
        return "user_input" if tool is not None and tool.requires_user_input else "confirmation"

    @property
    def _confirmed(self) -> bool | None:
        """The decision: of this object, or of its tool, which programs also set."""
        nested = self.tool_execution.confirmed if self.tool_execution is not None else None
        return self.confirmation if nested is None else nested

    def is_resolved(self) -> bool:
        """Return whether it has an answer, here or in the store."""
        needs = self.needs_confirmation or self.needs_user_input
        return not (needs or self.needs_user_feedback or self.needs_external_execution)

    # -- answering

    def _need(self, needed: bool, what: str) -> ToolExecution:
        if self.state != "open":
            by = f" by {self.by}" if self.by else ""
            raise ConfigurationError(f"requirement {self.id!r} can't be answered any more: it is {self.state}{by}")
        if not needed or self.tool_execution is None:
            raise ConfigurationError(f"requirement {self.id!r} does not wait for {what}: it needs {self.pause_type}")
        return self.tool_execution

    def confirm(self, by: str | None = None) -> None:
        """Say that the tool may be called.

        Raises:
            ConfigurationError: no confirmation is needed.
        """
        tool = self._need(self.needs_confirmation, "a confirmation")
        self.confirmation = tool.confirmed = True
        self.by = by or self.by

    def reject(self, note: str | None = None, by: str | None = None) -> None:
        """Say that the tool must not be called; the model gets the note as the result.

        Raises:
            ConfigurationError: no confirmation is needed.
        """
        tool = self._need(self.needs_confirmation, "a confirmation")
        self.confirmation = tool.confirmed = False
        self.confirmation_note = tool.confirmation_note = note
        self.by = by or self.by

    def edit(self, arguments: Mapping[str, Any], by: str | None = None) -> None:
        """Confirm the call with other arguments, which are validated when the run continues.

        Raises:
            ConfigurationError: no confirmation is needed.
        """
        tool = self._need(self.needs_confirmation, "a confirmation")
        tool.tool_args = dict(arguments)
        self.confirm(by)

    def provide_user_input(self, values: Mapping[str, Any], by: str | None = None) -> None:
        """Give the values of the fields, by name. It is answered when every field has a value.

        Raises:
            ConfigurationError: no values are needed.
        """
        tool = self._need(self.needs_user_input, "values")
        for one in tool.user_input_schema or ():
            if one.name in values:
                one.value = values[one.name]
        self.user_input_schema = tool.user_input_schema
        tool.answered = all(one.value is not None for one in tool.user_input_schema or ())
        self.by = by or self.by

    def provide_user_feedback(self, selections: Mapping[str, Sequence[str]], by: str | None = None) -> None:
        """Give the labels that were chosen, by question.

        Raises:
            ConfigurationError: no feedback is needed.
        """
        tool = self._need(self.needs_user_feedback, "feedback")
        for one in tool.user_feedback_schema or ():
            if one.question in selections:
                one.select(selections[one.question])
        tool.answered = all(one.selected_options is not None for one in tool.user_feedback_schema or ())
        self.user_feedback_schema = tool.user_feedback_schema
        self.by = by or self.by

    def set_external_execution_result(self, result: str, by: str | None = None) -> None:
        """Give the result of the tool.

        Raises:
            ConfigurationError: no result is needed.
        """
        tool = self._need(self.needs_external_execution, "an external result")
        self.external_execution_result = tool.result = result
        self.by = by or self.by

    # -- for the store

    def as_stored(self, run_id: str, root_run_id: str, schema: dict[str, Any] | None) -> Requirement:
        """Return the requirement as a store decides about it.

        Parameters:
            schema: the JSON schema of the arguments of the tool.
        """
        from desist.run.records.requirement import Requirement, digest_of

        tool = self.tool_execution
        name, args = (tool.tool_name, tool.tool_args) if tool is not None else (None, None)
        self.digest = self.digest or digest_of(name, args)
        if self.pause_type == "user_input" and tool is not None:
            schema = _schema_of(tool.user_input_schema or ())
        return Requirement(
            requirement_id=self.id,
            run_id=run_id,
            root_run_id=root_run_id,
            kind=self.pause_type,
            asked={"tool_name": name, "tool_args": args, "tool_call_id": tool.tool_call_id if tool else None},
            digest=self.digest,
            schema=schema,
        )

    def to_answer(self, by: str | None = None) -> Answer | None:
        """Return the answer that this object holds, or None if it holds none."""
        return self.recorded_answer(by) if self.state == "open" else None

    def recorded_answer(self, by: str | None = None) -> Answer | None:
        """Return the answer that this object holds, also if it was accepted already."""
        from desist.run.records.requirement import Answer, digest_of

        tool = self.tool_execution
        if tool is None:
            return None
        by, digest = by or self.by, self.digest
        if self._confirmed is False:
            note = self.confirmation_note or tool.confirmation_note
            return Answer(decision="reject", by=by, note=note, digest=digest)
        kind = self.pause_type
        if kind == "confirmation":
            if self._confirmed is None:
                return None
            if digest is not None and digest_of(tool.tool_name, tool.tool_args) != digest:
                return Answer(decision="edit", by=by, arguments=dict(tool.tool_args or {}), digest=digest)
            return Answer(decision="confirm", by=by, digest=digest)
        if kind == "user_input":
            fields = self.user_input_schema or tool.user_input_schema or ()
            if not tool.answered and any(one.value is None for one in fields):
                return None
            values = {one.name: one.value for one in fields if one.value is not None}
            return Answer(decision="input", by=by, values=values, digest=digest)
        if kind == "user_feedback":
            questions = self.user_feedback_schema or tool.user_feedback_schema or ()
            if any(one.selected_options is None for one in questions):
                return None
            values = {one.question: list(one.selected_options or ()) for one in questions}
            return Answer(decision="feedback", by=by, values=values, digest=digest)
        result = self.external_execution_result if self.external_execution_result is not None else tool.result
        return None if result is None else Answer(decision="result", by=by, result=result, digest=digest)

    def apply(self, stored: Requirement) -> None:
        """Take over the answer that the store has accepted."""
        self.state, self.by, self.answered_at = stored.state, stored.by, stored.at
        tool, answer = self.tool_execution, stored.answer
        if tool is None or answer is None:
            return
        decision = answer["decision"]
        if decision in ("confirm", "edit", "reject"):
            self.confirmation = tool.confirmed = decision != "reject"
            self.confirmation_note = tool.confirmation_note = answer.get("note")
        if decision == "edit":
            tool.tool_args, self.edited = dict(answer["arguments"]), True
        elif decision == "input":
            for one in tool.user_input_schema or ():
                one.value = answer["values"].get(one.name, one.value)
            tool.answered, self.user_input_schema = True, tool.user_input_schema
        elif decision == "feedback":
            for question in tool.user_feedback_schema or ():
                question.select(answer["values"].get(question.question) or ())
            tool.answered, self.user_feedback_schema = True, tool.user_feedback_schema
        elif decision == "result":
            self.external_execution_result = answer["result"]


def _schema_of(fields: Sequence[UserInputField]) -> dict[str, Any]:
    """Return the JSON schema of the values that a human gives."""
    made: dict[str, dict[str, Any]] = {}
    for one in fields:
        kind = _JSON_TYPES.get(one.field_type)
        made[one.name] = {"type": kind} if kind else {}
        if one.description:
            made[one.name]["description"] = one.description
    return {"type": "object", "properties": made, "required": [one.name for one in fields if one.value is None]}
