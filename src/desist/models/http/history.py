"""What of a conversation can be told to a model again. Called by the modules that write messages for a provider.

A conversation may hold what a cancel left: answers cut off before their first word, calls cut off in the middle.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from desist.models.http.text import clean_text
from desist.run.message import Message, ToolCall

__all__ = ["argument_object", "argument_text", "repeatable"]


def repeatable(messages: Iterable[Message]) -> Iterator[Message]:
    """Yield all messages but answers that were cancelled before their first word, and before any call."""
    for message in messages:
        if not (message.role == "assistant" and message.cancelled and not (message.content or message.tool_calls)):
            yield message


def argument_text(call: ToolCall, *, cancelled: bool) -> str:
    """Return the arguments as the JSON text of an object: as the model wrote them, or as `argument_object`."""
    arguments = clean_text(call.arguments)
    if isinstance(_read(arguments), dict):
        return arguments
    return json.dumps(argument_object(call, cancelled=cancelled))


def argument_object(call: ToolCall, *, cancelled: bool) -> dict[str, Any]:
    """Return the arguments of a call as an object, which every provider takes.

    What was cut off in the middle becomes an empty one. What the model wrote wrong is shown to it under "invalid_json".
    """
    arguments = clean_text(call.arguments)
    read = _read(arguments)
    if isinstance(read, dict):
        return read
    return {} if cancelled or not arguments else {"invalid_json": arguments}


def _read(text: str) -> Any:
    """Return what JSON text says, None where it isn't JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
