"""What a tool needs of a human before it is called: a confirmation, values, or its result from elsewhere.

Called by `function` and `toolkit`, and by the agent, which pauses the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from desist.exceptions import ConfigurationError
from desist.run.records.message import UserFeedbackOption, UserFeedbackQuestion, UserInputField

__all__ = ["HumanInput", "OnAnswerTimeout"]

OnAnswerTimeout = Literal["cancel", "skip", "approve"]
_NAMES = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "array": "list", "object": "dict"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanInput:
    """What is needed. At most one of the three."""

    requires_confirmation: bool = False
    requires_user_input: bool = False
    user_input_fields: tuple[str, ...] = ()  #: the fields that a human fills in; () for all
    external_execution: bool = False
    external_execution_silent: bool = False
    asks: Literal["", "fields", "questions"] = ""  #: what the model itself asks for, in the arguments of the call
    timeout: float | None = None  #: seconds that the run waits for an answer
    on_timeout: OnAnswerTimeout = "cancel"

    @classmethod
    def checked(
        cls,
        tool: str,
        *,
        requires_confirmation: bool | None = None,
        requires_user_input: bool | None = None,
        user_input_fields: Sequence[str] | None = None,
        external_execution: bool | None = None,
        external_execution_silent: bool | None = None,
        answer_timeout: float | None = None,
        on_answer_timeout: OnAnswerTimeout = "cancel",
    ) -> HumanInput:
        """Return the settings of a tool.

        Raises:
            ConfigurationError: they contradict each other, or a value can't be used.
        """
        if isinstance(user_input_fields, str):
            raise ConfigurationError(f"tool '{tool}': user_input_fields must be a list of names, not a text")
        fields = tuple(user_input_fields or ())
        made = cls(
            requires_confirmation=bool(requires_confirmation),
            requires_user_input=bool(requires_user_input or fields),
            user_input_fields=fields,
            external_execution=bool(external_execution),
            external_execution_silent=bool(external_execution_silent),
            timeout=answer_timeout,
            on_timeout=on_answer_timeout,
        )
        kinds = (made.requires_confirmation, made.requires_user_input, made.external_execution)
        if sum(kinds) > 1:
            raise ConfigurationError(
                f"tool '{tool}' can have only one of requires_confirmation, requires_user_input and external_execution"
            )
        if on_answer_timeout not in ("cancel", "skip", "approve"):
            raise ConfigurationError(
                f"tool '{tool}': on_answer_timeout={on_answer_timeout!r} must be 'cancel', 'skip' or 'approve'"
            )
        if answer_timeout is not None and not (isinstance(answer_timeout, int | float) and answer_timeout > 0):
            raise ConfigurationError(
                f"tool '{tool}': answer_timeout={answer_timeout!r} must be a number of seconds above 0, or None"
            )
        if on_answer_timeout == "approve" and not made.requires_confirmation:
            raise ConfigurationError(f"tool '{tool}': on_answer_timeout='approve' needs requires_confirmation=True")
        return made

    def extended(self, tool: str, *, confirm: bool, external: bool) -> HumanInput:
        """Return these settings with what a toolkit demands.

        Raises:
            ConfigurationError: they contradict each other.
        """
        return self.checked(
            tool,
            requires_confirmation=self.requires_confirmation or confirm,
            requires_user_input=self.requires_user_input,
            user_input_fields=self.user_input_fields,
            external_execution=self.external_execution or external,
            external_execution_silent=self.external_execution_silent,
            answer_timeout=self.timeout,
            on_answer_timeout=self.on_timeout,
        )

    @property
    def needed(self) -> bool:
        """Whether a call waits for a human."""
        return self.requires_confirmation or self.requires_user_input or self.external_execution

    def shown_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the schema of the arguments that the model gives: without the fields that a human fills in."""
        if not self.requires_user_input or self.asks:
            return schema
        properties: Mapping[str, Any] = schema.get("properties", {})
        asked = set(self.user_input_fields or properties)
        kept = {name: value for name, value in properties.items() if name not in asked}
        made = {**schema, "properties": kept}
        if "required" in schema:
            made["required"] = [name for name in schema["required"] if name in kept]
        return made

    def check_fields(self, tool: str, schema: Mapping[str, Any]) -> None:
        """Check that the fields are parameters of the tool.

        Raises:
            ConfigurationError: a field is unknown.
        """
        known = schema.get("properties", {})
        unknown = [name for name in self.user_input_fields if name not in known]
        if unknown:
            raise ConfigurationError(
                f"tool '{tool}': user_input_fields has unknown names: {', '.join(unknown)}; the parameters are:"
                f" {', '.join(known) or 'none'}"
            )

    def fields(self, schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> list[UserInputField]:
        """Return the fields that a human sees; those that the model has filled in have a value."""
        if self.asks == "fields":
            return [
                UserInputField(
                    name=str(one.get("field_name")),
                    field_type=str(one.get("field_type") or "str"),
                    description=one.get("field_description"),
                )
                for one in arguments.get("user_input_fields") or ()
            ]
        made = []
        for name, prop in schema.get("properties", {}).items():
            asked = not self.user_input_fields or name in self.user_input_fields
            kind = prop.get("type")
            made.append(
                UserInputField(
                    name=name,
                    field_type=_NAMES.get(kind, "str") if isinstance(kind, str) else "str",
                    description=prop.get("description"),
                    value=None if asked else arguments.get(name),
                )
            )
        return made

    def questions(self, arguments: Mapping[str, Any]) -> list[UserFeedbackQuestion]:
        """Return the questions that the model asks."""
        return [
            UserFeedbackQuestion(
                question=str(one.get("question")),
                header=one.get("header"),
                multi_select=bool(one.get("multi_select")),
                options=[
                    UserFeedbackOption(label=str(option.get("label")), description=option.get("description"))
                    for option in one.get("options") or ()
                ],
            )
            for one in arguments.get("questions") or ()
        ]
