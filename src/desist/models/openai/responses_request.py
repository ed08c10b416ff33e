"""Converts messages to the `input` items of the Responses API. Called by `responses`.

Calls and their results are items of their own, tied by `call_id`. No item has an id of the provider's: nothing of the
conversation needs to be stored there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from desist.models.http.conversation import NO_TEXT, argument_text, plain_name, sendable_messages
from desist.models.http.text import clean_text
from desist.run.records.message import Message

__all__ = ["PROVIDER", "input_items", "instructions"]

#: The key of `Message.provider_data` for the encrypted reasoning of the response.
PROVIDER = "openai.responses"


def instructions(messages: list[Message]) -> str | None:
    """Return the text of the leading system messages."""
    texts = [clean_text(message.get_content_string()) for message in messages[: _leading(messages)]]
    return "\n\n".join(text for text in texts if text.strip()) or None


def input_items(messages: list[Message]) -> list[dict[str, Any]]:
    """Return all other messages as items, without empty responses."""
    return [item for message in sendable_messages(messages[_leading(messages) :]) for item in _items(message)]


def _leading(messages: list[Message]) -> int:
    """Return the number of leading system messages."""
    return next((n for n, message in enumerate(messages) if message.role not in ("system", "developer")), len(messages))


def _items(message: Message) -> Iterable[dict[str, Any]]:
    text = clean_text(message.content or "")
    if message.role == "user" and not text.strip():
        text = NO_TEXT
    if message.role == "tool":
        call_id = clean_text(message.tool_call_id or "")
        yield {"type": "function_call_output", "call_id": call_id, "output": text}
        return
    says = bool(text.strip())
    if says or message.tool_calls:  # reasoning alone is refused
        yield from (message.provider_data or {}).get(PROVIDER, ())
    if says:
        yield {"role": message.role, "content": text}
    for call in message.tool_calls or ():
        yield {
            "type": "function_call",
            "call_id": clean_text(call.id),
            "name": plain_name(call.name),
            "arguments": argument_text(call, cancelled=message.cancelled),
        }
