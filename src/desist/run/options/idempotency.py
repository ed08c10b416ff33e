"""Idempotency keys of tool calls and function steps, so that an external service can recognise a repeated request.

A key consists of the run, the step and the attempt. A step that runs again after a crash has the same key: the number
of resumptions is not part of it. Steps and agents set the key; programs read it.
"""

from __future__ import annotations

import contextvars
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from desist.exceptions import ConfigurationError
from desist.run.records.message import Message, ToolCall

__all__ = ["child_key", "escape_key_part", "idempotency_key", "set_work_key", "tool_call_keys"]

_LONGEST = 24  #: maximum length of a name in a key


class _WorkUnit:
    """The current tool call or function step, and the number of runs started in it."""

    __slots__ = ("key", "runs")

    def __init__(self, key: str) -> None:
        self.key, self.runs = key, 0


_current: contextvars.ContextVar[_WorkUnit | None] = contextvars.ContextVar("desist_work", default=None)


def idempotency_key() -> str:
    """Return the key of the current tool call or function step: `run:step:attempt`.

    The key stays the same when a step that a crash interrupted runs again in another process. It differs for each
    step, loop iteration, branch and tool call, and for each retry after an error.

    Raises:
        ConfigurationError: called outside of a tool or function step, or in one with `isolation="process"`.
    """
    work = _current.get()
    if work is None:
        raise ConfigurationError(
            "idempotency_key() is available in tools and function steps only: call it in one of them"
        )
    return work.key


def set_work_key(key: str | None) -> None:
    """Set the key of the current work in this context; None for no work."""
    _current.set(None if key is None else _WorkUnit(key))


def child_key(run_id: str, parent_key: str | None, *, bound: bool) -> str:
    """Return the prefix of the keys of a run's work.

    Parameters:
        run_id: id of the run, the prefix if nothing better is known: a child run has a new id after a crash.
        parent_key: prefix of the parent run; None for a run without a parent.
        bound: whether the run does all the work of the current step.
    """
    work = _current.get()
    if parent_key is None:
        return run_id
    if work is None:
        return f"{parent_key}:{run_id}"
    if bound:
        return work.key
    work.runs += 1
    return f"{work.key}:run{work.runs}"


def escape_key_part(name: str) -> str:
    """Return a name as part of a key: letters, digits, `_` and `-` only, so that the key is valid in a header."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:_LONGEST]


def tool_call_keys(calls: Sequence[ToolCall], before: Iterable[Message]) -> list[str]:
    """Return a key for each of the calls that a model requests.

    Calls of one tool with the same arguments are numbered. A cancelled call is not counted, so the same call has the
    same key when the model requests it again.

    Parameters:
        calls: the requested calls.
        before: the earlier messages of this run.
    """
    messages = list(before)
    answered = {one.tool_call_id for one in messages if one.role == "tool" and not one.cancelled}
    made = Counter(_name(call) for one in messages for call in one.tool_calls or () if call.id in answered)
    names = []
    for call in calls:
        name = _name(call)
        made[name] += 1
        names.append(f"{name}.{made[name]}")
    return names


def _name(call: ToolCall) -> str:
    try:
        arguments: Any = msgspec.json.encode(msgspec.json.decode(call.arguments or "{}"), order="deterministic")
    except ValueError:
        arguments = call.arguments.encode("utf-8", "replace")
    return f"{escape_key_part(call.name)}.{hashlib.sha256(arguments).hexdigest()[:12]}"
