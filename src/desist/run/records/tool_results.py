"""Add results to tool calls that have none, and make the messages of a run a history that every provider accepts.

Called at the end of a run, and again when a run is loaded, because a crash leaves calls without results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from desist.run.records.message import CANCELLED_RESULT, Message, ToolCall

__all__ = ["free_id", "missing_tool_results", "normalize_history"]


def missing_tool_results(messages: Sequence[Message], text: str) -> list[Message]:
    """Return synthetic results for the calls in `messages` that have no result."""
    answered = {message.tool_call_id for message in messages if message.role == "tool"}
    open_calls: list[Any] = [
        call for message in messages for call in message.tool_calls or [] if call.id not in answered
    ]
    return [_stopped(call, text) for call in open_calls]


def normalize_history(
    messages: Sequence[Message], text: str = CANCELLED_RESULT, used_ids: set[str] | None = None
) -> list[Message]:
    """Return the messages with exactly one result after each call, in the order of the calls.

    A call without a result gets a synthetic result. Results without a call and duplicate results are omitted. Valid
    messages are returned unchanged.

    Parameters:
        text: content of the synthetic results.
        used_ids: ids of calls in earlier messages. A call with such an id gets a new one. The ids of these messages are
            added to the set.
    """
    results: dict[str, Message] = {}
    for message in messages:
        if message.role == "tool" and message.tool_call_id is not None:
            results.setdefault(message.tool_call_id, message)
    history: list[Message] = []
    seen: set[str] = set()
    used_ids = set() if used_ids is None else used_ids
    for message in messages:
        if message.role == "tool":
            continue
        calls = [call for call in _first(message.tool_calls or []) if call.id not in seen]
        seen.update(call.id for call in calls)
        names = [free_id(call.id, used_ids) for call in calls]
        history.append(_with_calls(message, calls, names))
        for call, name in zip(calls, names, strict=True):
            result = results[call.id] if call.id in results else _stopped(call, text)
            history.append(result if name == call.id else replace(result, tool_call_id=name))
    return history


def free_id(base: str, used_ids: set[str]) -> str:
    """Return an unused id for a call, `base` or `base` with a number, and add it to `used_ids`."""
    name, number = base, 2
    while name in used_ids:
        name, number = f"{base}_{number}", number + 1
    used_ids.add(name)
    return name


def _first(calls: Sequence[ToolCall]) -> list[ToolCall]:
    """Return the calls of one message. Of calls with the same id, only the first is kept."""
    return list({call.id: call for call in reversed(calls)}.values())[::-1]


def _with_calls(message: Message, calls: list[ToolCall], names: list[str]) -> Message:
    if calls == (message.tool_calls or []) and names == [call.id for call in calls]:
        return message
    named = [replace(call, id=name) for call, name in zip(calls, names, strict=True)]
    return replace(message, tool_calls=named or None)


def _stopped(call: ToolCall, text: str) -> Message:
    return Message("tool", text, tool_call_id=call.id, tool_name=call.name, cancelled=True)
