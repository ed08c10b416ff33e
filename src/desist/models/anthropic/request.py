"""Converts messages to `system` and `messages` of the Messages API. Called by `claude`.

The API's rules that are kept here, whatever a cancel left of a conversation: a user begins, roles take turns; the
results of calls are the first blocks after the calls; no text is blank; ids and names are of plain characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from desist.models.http.conversation import NO_TEXT, argument_object, plain_id, plain_name, sendable_messages
from desist.models.http.text import clean_text
from desist.run.records.message import Message

__all__ = ["PROVIDER", "called_names", "system_text", "thought_before_calls", "wire_messages"]

#: The key of `Message.provider_data` for the signed thinking of the response.
PROVIDER = "anthropic"


def system_text(messages: Iterable[Message]) -> str | None:
    """Return the text of all system messages, without repetitions, which a history of several runs has."""
    texts = [clean_text(m.get_content_string()) for m in messages if m.role in ("system", "developer")]
    return "\n\n".join(dict.fromkeys(text for text in texts if text.strip())) or None


def wire_messages(messages: Iterable[Message], *, thinking: bool = False) -> list[dict[str, Any]]:
    """Return all other messages. With `thinking`, they include the thinking before tool calls."""
    wire: list[dict[str, Any]] = []
    for message in sendable_messages(messages):
        if message.role in ("system", "developer"):
            continue
        blocks = list(_blocks(message, thinking))
        role = "assistant" if message.role == "assistant" else "user"
        if not wire and role == "assistant":
            wire.append({"role": "user", "content": [{"type": "text", "text": NO_TEXT}]})
        if wire and wire[-1]["role"] == role:
            wire[-1]["content"] += blocks
        else:
            wire.append({"role": role, "content": blocks})
    _trim_end(wire)
    return wire


def called_names(messages: Iterable[Message]) -> list[str]:
    """Return the distinct names of the tools called in a conversation."""
    return list(dict.fromkeys(plain_name(call.name) for message in messages for call in message.tool_calls or ()))


def _blocks(message: Message, thinking: bool) -> Iterator[dict[str, Any]]:
    text = clean_text(message.content or "")
    if message.role == "user" and not text.strip():
        text = NO_TEXT
    if message.role == "tool":
        result = {"type": "tool_result", "tool_use_id": plain_id(message.tool_call_id or "")}
        if text.strip():
            result["content"] = text
        yield result | ({"is_error": True} if message.tool_call_error or message.cancelled else {})
        return
    says = bool(text.strip())
    if thinking and (says or message.tool_calls):  # thinking alone is refused
        yield from (message.provider_data or {}).get(PROVIDER, ())
    if says:
        yield {"type": "text", "text": text}
    for call in message.tool_calls or ():
        arguments = argument_object(call, cancelled=message.cancelled)
        yield {"type": "tool_use", "id": plain_id(call.id), "name": plain_name(call.name), "input": arguments}


def _trim_end(wire: list[dict[str, Any]]) -> None:
    """Strip trailing whitespace of a last assistant message, which the API refuses."""
    if wire and wire[-1]["role"] == "assistant" and wire[-1]["content"][-1]["type"] == "text":
        last = wire[-1]["content"][-1]
        last["text"] = last["text"].rstrip()


def thought_before_calls(wire: list[dict[str, Any]]) -> bool:
    """Return whether the last response, if it calls tools, starts with thinking."""
    answers = [message["content"] for message in wire if message["role"] == "assistant"]
    last = answers[-1] if answers else []
    calls = any(block["type"] == "tool_use" for block in last)
    return not calls or last[0]["type"] in ("thinking", "redacted_thinking")
