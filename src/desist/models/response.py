"""The pieces of a model's response, in order of arrival."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from desist.run.records.message import ToolExecution
from desist.run.records.metrics import Usage

__all__ = ["ModelResponse", "ToolCallDelta", "ToolExecution", "Usage"]


@dataclass(slots=True, kw_only=True)
class ToolCallDelta:
    """A piece of a tool call. Pieces with the same `index` belong together; their `arguments` are joined."""

    index: int = 0
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(slots=True, kw_only=True)
class ModelResponse:
    """A piece of a response. A model yields any number; unknown fields are None."""

    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    usage: Usage | None = None  #: of the whole call; usually in the last piece
    finish_reason: str | None = None
    provider_data: dict[str, Any] | None = (
        None  #: for `Message.provider_data`: of the whole response, in the last piece
    )
