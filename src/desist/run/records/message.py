"""Messages between program, model and tools, and the tool calls in them.

Defined below `models`, because a run's output contains messages. `desist.models.message` is the public import path.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from desist.run.records.ids import new_uuid

__all__ = [
    "CANCELLED_RESULT",
    "NOT_CALLED_RESULT",
    "Message",
    "Role",
    "ToolCall",
    "ToolExecution",
    "UserFeedbackOption",
    "UserFeedbackQuestion",
    "UserInputField",
]

Role = Literal["system", "developer", "user", "assistant", "tool"]

#: Result that is sent to the model for a cancelled call, so that the next request is valid for every provider.
CANCELLED_RESULT = "Cancelled: this tool call was stopped before it returned a result. It may have had effects."
#: The same for a call that waited for a human.
NOT_CALLED_RESULT = "Cancelled: this tool call waited for a human, and the tool was not called."


@dataclass(slots=True, kw_only=True)
class ToolCall:
    """A model's request to call a tool. `arguments` is the JSON text as received from the model."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class Message:
    """One message. A tool message has the `tool_call_id` of its call; an assistant message may have `tool_calls`."""

    role: Role
    content: str | None = None
    tool_calls: list[ToolCall] | None = field(default=None, kw_only=True)
    tool_call_id: str | None = field(default=None, kw_only=True)
    tool_name: str | None = field(default=None, kw_only=True)
    tool_call_error: bool = field(default=False, kw_only=True)
    name: str | None = field(default=None, kw_only=True)
    reasoning_content: str | None = field(default=None, kw_only=True)
    #: Why a model's answer ended: "stop", "tool_calls", "length", "content_filter", ...; None if it is unknown.
    finish_reason: str | None = field(default=None, kw_only=True)
    #: Data to send back to the provider with this message, keyed by provider. Opaque to all other code.
    provider_data: dict[str, Any] | None = field(default=None, kw_only=True)
    #: True for a response that a cancel cut off, and for the synthetic result of a cancelled call.
    cancelled: bool = field(default=False, kw_only=True)
    id: str = field(default_factory=lambda: new_uuid().hex, kw_only=True)
    created_at: int = field(default_factory=lambda: int(time.time()), kw_only=True)

    def get_content_string(self) -> str:
        """Return the content, or "" if there is none."""
        return self.content or ""


@dataclass(slots=True, kw_only=True)
class UserInputField:
    """A value that a human gives for a tool call."""

    name: str
    field_type: str = "str"  #: the name of the type: "str", "int", ...
    description: str | None = None
    value: Any = None


@dataclass(slots=True, kw_only=True)
class UserFeedbackOption:
    """An option of a question."""

    label: str
    description: str | None = None
    selected: bool = False


@dataclass(slots=True, kw_only=True)
class UserFeedbackQuestion:
    """A question with options."""

    question: str
    header: str | None = None
    options: list[UserFeedbackOption] | None = None
    multi_select: bool = False
    selected_options: list[str] | None = None

    def select(self, labels: Sequence[str]) -> None:
        """Mark the options with these labels as chosen."""
        self.selected_options = list(labels)
        for option in self.options or ():
            option.selected = option.label in self.selected_options


@dataclass(slots=True, kw_only=True)
class ToolExecution:
    """One call of a tool and its outcome."""

    tool_call_id: str | None = None
    tool_name: str | None = None
    tool_args: dict[str, Any] | None = None
    tool_call_error: bool | None = None
    result: str | None = None
    cancelled: bool = False  #: cancelled before the tool returned
    abandoned: bool = False  #: still running when the run settled
    stop_after_tool_call: bool = False
    show_result: bool = False
    started_at: float | None = None  #: seconds since the epoch
    ended_at: float | None = None
    created_at: int = field(default_factory=lambda: int(time.time()))
    requires_confirmation: bool | None = None
    confirmed: bool | None = None
    confirmation_note: str | None = None
    requires_user_input: bool | None = None
    user_input_schema: list[UserInputField] | None = None
    user_feedback_schema: list[UserFeedbackQuestion] | None = None
    answered: bool | None = None  #: whether all values were given
    external_execution_required: bool | None = None
    external_execution_silent: bool | None = None

    @property
    def is_paused(self) -> bool:
        """Whether the call waits, or has waited, for a human."""
        return bool(self.requires_confirmation or self.requires_user_input or self.external_execution_required)

    @property
    def duration(self) -> float | None:
        """Seconds from start to end, or None while the call runs."""
        return None if self.started_at is None or self.ended_at is None else self.ended_at - self.started_at
