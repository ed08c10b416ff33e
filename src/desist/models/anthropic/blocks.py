"""From messages to the `system` and `messages` of the Messages API. Called by `claude`.

The API's rules that are kept here, whatever a cancel left of a conversation: `user` and `assistant` take turns; the
results of calls are the first blocks after the calls; no text is blank; ids and names are of plain characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from desist.models.http.history import argument_object, repeatable
from desist.models.http.text import clean_text
from desist.run.message import Message

__all__ = ["PROVIDER", "called_names", "system_text", "wire_messages"]

#: Under this name a message keeps the thinking that belongs to its answer, signed by the provider.
PROVIDER = "anthropic"

_ODD = re.compile(r"[^a-zA-Z0-9_-]")


def system_text(messages: Iterable[Message]) -> str | None:
    """Return the text of all system messages. What is said twice, as in a history of several runs, is told once."""
    told = [clean_text(m.get_content_string()) for m in messages if m.role in ("system", "developer")]
    return "\n\n".join(dict.fromkeys(text for text in told if text.strip())) or None


def wire_messages(messages: Iterable[Message], *, thinking: bool = False) -> list[dict[str, Any]]:
    """Return all other messages. With `thinking`, what the model thought before its calls goes back to it."""
    wire: list[dict[str, Any]] = []
    for message in repeatable(messages):
        if message.role in ("system", "developer"):
            continue
        blocks = list(_blocks(message, thinking))
        role = "assistant" if message.role == "assistant" else "user"
        if not blocks:
            continue
        if wire and wire[-1]["role"] == role:
            wire[-1]["content"] += blocks
        else:
            wire.append({"role": role, "content": blocks})
    _trim_end(wire)
    return wire


def called_names(messages: Iterable[Message]) -> list[str]:
    """Return the names of the tools that were called in a conversation, each once."""
    return list(dict.fromkeys(_plain(call.name) for message in messages for call in message.tool_calls or ()))


def _blocks(message: Message, thinking: bool) -> Iterator[dict[str, Any]]:
    text = clean_text(message.content or "")
    if message.role == "tool":
        result = {"type": "tool_result", "tool_use_id": _plain(message.tool_call_id or "")}
        if text.strip():
            result["content"] = text
        yield result | ({"is_error": True} if message.tool_call_error or message.cancelled else {})
        return
    has_more = bool(text.strip() or message.tool_calls)
    if thinking and has_more:  # thinking alone is refused
        yield from (message.provider_data or {}).get(PROVIDER, ())
    if text.strip():
        yield {"type": "text", "text": text}
    for call in message.tool_calls or ():
        arguments = argument_object(call, cancelled=message.cancelled)
        yield {"type": "tool_use", "id": _plain(call.id), "name": _plain(call.name), "input": arguments}


def _plain(name: str) -> str:
    """Return an id or name as the API takes it; other providers allow more."""
    return _ODD.sub("_", name) or "_"


def _trim_end(wire: list[dict[str, Any]]) -> None:
    """An answer that the model is to continue must not end in blanks."""
    if wire and wire[-1]["role"] == "assistant" and wire[-1]["content"][-1]["type"] == "text":
        last = wire[-1]["content"][-1]
        last["text"] = last["text"].rstrip()
