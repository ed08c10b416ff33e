"""Selects the messages of a conversation that can be sent to a model again. Called by the request modules.

A conversation may hold what a cancel left: answers cut off before their first word, calls cut off in the middle. It
may come from another provider, and a model may have called what doesn't exist: names and ids aren't all plain.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import replace
from typing import Any

from desist.models.http.text import clean_text
from desist.run.records.message import Message, ToolCall

__all__ = ["NO_TEXT", "argument_object", "argument_text", "plain_id", "plain_name", "sendable_messages"]

_ODD = re.compile(r"[^a-zA-Z0-9_-]")
LONGEST_NAME = 64  #: characters
NO_TEXT = "(no text)"  #: sent in place of an empty user message, which some APIs refuse


def sendable_messages(messages: Iterable[Message]) -> Iterator[Message]:
    """Yield the messages that can be sent, each tool call with a unique id.

    Left out are answers that say nothing and call nothing: cancelled before their first word, mostly. Some servers
    begin to count their calls anew with each answer: what was used before gets another id, in the results too.
    """
    taken: set[str] = set()
    renamed: dict[str, str] = {}  # ids of the latest calls
    for number, message in enumerate(messages):
        if message.tool_calls:
            ids = {call.id for call in message.tool_calls}
            renamed = {old: _free(f"{old}_{number}", taken | ids) for old in ids & taken}
            taken |= {renamed.get(old, old) for old in ids}
            if renamed:
                message = replace(message, tool_calls=[_renamed(call, renamed) for call in message.tool_calls])
        elif message.tool_call_id in renamed:
            message = replace(message, tool_call_id=renamed[message.tool_call_id])
        if message.role != "assistant" or message.tool_calls or message.get_content_string().strip():
            yield message


def _renamed(call: ToolCall, renamed: Mapping[str, str]) -> ToolCall:
    return replace(call, id=renamed.get(call.id, call.id))


def _free(base: str, used: Set[str]) -> str:
    while base in used:
        base += "_"
    return base


def plain_name(name: str) -> str:
    """Return a tool name with only letters, digits, `_` and `-`: providers refuse others, even in the history."""
    return _ODD.sub("_", name)[:LONGEST_NAME] or "_"


def plain_id(call_id: str) -> str:
    """Return an id with the same characters. Different ids stay different."""
    plain = _ODD.sub("_", call_id)
    return plain if plain and plain == call_id else f"{plain}_{zlib.crc32(call_id.encode(errors='replace')):08x}"


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
    """Return the value of JSON text, or None for invalid JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
