"""Converts messages to the `messages` of a chat completion, for any compatible server. Called by `chat`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from desist.models.http.conversation import argument_text, plain_name, sendable_messages
from desist.models.http.text import clean_text
from desist.run.records.message import Message, ToolCall

__all__ = ["wire_messages"]


def wire_messages(messages: Iterable[Message], role_map: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Return the messages for the API. `role_map` renames roles, for instance {"system": "developer"}."""
    roles = role_map or {}
    return [_wire_message(message, roles.get(message.role, message.role)) for message in sendable_messages(messages)]


def _wire_message(message: Message, role: str) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": role}
    content = None if message.content is None else clean_text(message.content)
    if message.tool_calls:
        wire["content"] = content if content and content.strip() else None
        wire["tool_calls"] = [_wire_call(call, message.cancelled) for call in message.tool_calls]
    else:
        wire["content"] = content or ""
    if message.role == "tool":
        wire["tool_call_id"] = clean_text(message.tool_call_id or "")
    elif message.name:
        wire["name"] = clean_text(message.name)
    return wire


def _wire_call(call: ToolCall, cancelled: bool) -> dict[str, Any]:
    function = {"name": plain_name(call.name), "arguments": argument_text(call, cancelled=cancelled)}
    return {"id": clean_text(call.id), "type": "function", "function": function}
