"""Tool calls without a result get one, and the messages of a run become a history that every provider takes.

Called at the end of a run, and again when a run is loaded: a crash leaves calls open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from desist.run.message import CANCELLED_RESULT, Message, ToolCall

__all__ = ["repaired", "sealed"]


def sealed(messages: Sequence[Message], text: str) -> list[Message]:
    """Return synthetic results for the calls in `messages` that have none, so that the history stays valid."""
    answered = {message.tool_call_id for message in messages if message.role == "tool"}
    open_calls: list[Any] = [
        call for message in messages for call in message.tool_calls or [] if call.id not in answered
    ]
    return [_stopped(call, text) for call in open_calls]


def repaired(messages: Sequence[Message], text: str = CANCELLED_RESULT) -> list[Message]:
    """Return the messages with exactly one result after each call, in the order of the calls.

    A call without a result gets a synthetic one; results without a call, and second ones, are left out. What is
    right already comes back as it is.
    """
    results: dict[str, Message] = {}
    for message in messages:
        if message.role == "tool" and message.tool_call_id is not None:
            results.setdefault(message.tool_call_id, message)
    told: list[Message] = []
    for message in messages:
        if message.role == "tool":
            continue
        calls = _distinct(message.tool_calls or [], told)
        told.append(message if calls == (message.tool_calls or []) else replace(message, tool_calls=calls or None))
        told += [results[call.id] if call.id in results else _stopped(call, text) for call in calls]
    return told


def _distinct(calls: list[ToolCall], told: list[Message]) -> list[ToolCall]:
    """Return the calls whose id wasn't used before: an id names one call."""
    taken = {call.id for message in told for call in message.tool_calls or []}
    return [call for call in calls if call.id not in taken]


def _stopped(call: ToolCall, text: str) -> Message:
    return Message("tool", text, tool_call_id=call.id, tool_name=call.name, cancelled=True)
