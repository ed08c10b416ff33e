"""What is said between program, model and tools: the messages of a conversation and the calls in them.

Lives below `models`, because a run's record holds messages; `desist.models.message` is its public face.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

from desist.run.records.ids import new_uuid

__all__ = ["CANCELLED_RESULT", "Message", "Role", "ToolCall", "ToolExecution"]

Role = Literal["system", "developer", "user", "assistant", "tool"]

#: What a model is told about a call that was stopped, so that the next request is valid for every provider.
CANCELLED_RESULT = "Cancelled: this tool call was stopped before it returned a result. It may have had effects."


@dataclass(slots=True, kw_only=True)
class ToolCall:
    """A model's wish to call a tool. `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class Message:
    """One message. `content` is text; a tool's message names its call, an assistant's may hold calls."""

    role: Role
    content: str | None = None
    tool_calls: list[ToolCall] | None = field(default=None, kw_only=True)
    tool_call_id: str | None = field(default=None, kw_only=True)
    tool_name: str | None = field(default=None, kw_only=True)
    tool_call_error: bool = field(default=False, kw_only=True)
    name: str | None = field(default=None, kw_only=True)
    reasoning_content: str | None = field(default=None, kw_only=True)
    #: What a provider wants back with this answer in the next request, under its own name: opaque to everybody else.
    provider_data: dict[str, Any] | None = field(default=None, kw_only=True)
    #: True for an answer that was cut off by a cancel, and for the synthetic result of a stopped call.
    cancelled: bool = field(default=False, kw_only=True)
    id: str = field(default_factory=lambda: new_uuid().hex, kw_only=True)
    created_at: int = field(default_factory=lambda: int(time.time()), kw_only=True)

    def get_content_string(self) -> str:
        """Return the content as text, "" where there is none."""
        return self.content or ""


@dataclass(slots=True, kw_only=True)
class ToolExecution:
    """One call of a tool and what became of it."""

    tool_call_id: str | None = None
    tool_name: str | None = None
    tool_args: dict[str, Any] | None = None
    tool_call_error: bool | None = None
    result: str | None = None
    cancelled: bool = False  #: stopped before it returned
    abandoned: bool = False  #: stopped being waited for, and still running when the run settled
    stop_after_tool_call: bool = False
    show_result: bool = False
    started_at: float | None = None  #: seconds since the epoch
    ended_at: float | None = None
    created_at: int = field(default_factory=lambda: int(time.time()))

    @property
    def duration(self) -> float | None:
        """Seconds from start to end, or None while it runs."""
        return None if self.started_at is None or self.ended_at is None else self.ended_at - self.started_at
