"""Names for pieces of work that have effects, so that whoever has the effect can tell that it was asked for before.

A key is made of the run, the step and the attempt, and of nothing that differs when the same step runs again after a
crash: the number of resumptions isn't in it. Set by steps and by agents for their tool calls; asked for by programs.
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

_LONGEST = 24  #: letters of a name that are shown


class _WorkUnit:
    """What is done now, and how many runs were started in it."""

    __slots__ = ("key", "runs")

    def __init__(self, key: str) -> None:
        self.key, self.runs = key, 0


_current: contextvars.ContextVar[_WorkUnit | None] = contextvars.ContextVar("desist_work", default=None)


def idempotency_key() -> str:
    """Return a name for the tool call or function step that this code belongs to: `run:step:attempt`.

    It is the same when a step that a crash has interrupted runs again in another process, and another one for each
    step, each round of a loop, each branch, each tool call, and each time that something is tried again after an error.

    Raises:
        ConfigurationError: asked for outside of a tool or function step, or in one with `isolation="process"`.
    """
    work = _current.get()
    if work is None:
        raise ConfigurationError("idempotency_key() is for the code of tools and function steps, called in one of them")
    return work.key


def set_work_key(key: str | None) -> None:
    """Say what is done from now on, in this context."""
    _current.set(None if key is None else _WorkUnit(key))


def child_key(run_id: str, parent_key: str | None, *, bound: bool) -> str:
    """Return what the keys of a run's work begin with.

    Parameters:
        run_id: its own id, which counts where there is nothing better: another one after a crash.
        parent_key: that of the run that it was started in; None for one that stands alone.
        bound: it does the step at hand, all of it.
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
    """Return a name as part of a key: letters, digits, `_` and `-`, so that it may be sent in a header."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:_LONGEST]


def tool_call_keys(wishes: Sequence[ToolCall], before: Iterable[Message]) -> list[str]:
    """Return a name for each of the calls that a model wants now.

    Calls of one tool with the same arguments are numbered. A call that was stopped isn't counted: when the model wants
    it again, it is the same call.

    Parameters:
        before: what was said in this run by now.
    """
    messages = list(before)
    answered = {one.tool_call_id for one in messages if one.role == "tool" and not one.cancelled}
    made = Counter(_name(call) for one in messages for call in one.tool_calls or () if call.id in answered)
    names = []
    for wish in wishes:
        name = _name(wish)
        made[name] += 1
        names.append(f"{name}.{made[name]}")
    return names


def _name(call: ToolCall) -> str:
    try:
        given: Any = msgspec.json.encode(msgspec.json.decode(call.arguments or "{}"), order="deterministic")
    except ValueError:
        given = call.arguments.encode("utf-8", "replace")
    return f"{escape_key_part(call.name)}.{hashlib.sha256(given).hexdigest()[:12]}"
