"""How a cancel reaches the tasks of a run: once, and again with back-off while they live.

An asyncio cancellation is delivered at one `await`; code that swallows it goes on. Delivering it at every await (as
level-triggered scopes do) would break the `await` in a user's `finally`, which guarantee 11 lets run. So: once at
once, again when three quarters of the grace are over, then with back-off for as long as a task lives.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
import traceback
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

__all__ = ["RunTasks", "current_tasks", "set_tasks"]

_current: contextvars.ContextVar[RunTasks | None] = contextvars.ContextVar("desist_tasks", default=None)

#: Seconds between deliveries at most.
SLOWEST = 1.0


class RunTasks:
    """The tasks of one run, all on one loop; those under a shield are spared until they leave it."""

    __slots__ = ("_budget", "_deferred_cancels", "_live", "_shields", "loop", "shield_deadline", "started")

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.started = False  #: whether a cancel was delivered at all
        self.shield_deadline = 0.0  #: seconds of `time.monotonic`
        self._live: set[asyncio.Task[Any]] = set()
        self._shields: dict[object, int] = {}
        self._budget = 0.0  #: seconds that those under a shield may take after a cancel
        self._deferred_cancels: set[object] = set()

    def start(self, work: Coroutine[Any, Any, Any], context: Context | None = None) -> asyncio.Task[Any]:
        """Start a task of this run. On the loop's thread."""
        assert self.loop is not None
        task = self.loop.create_task(work, context=context)
        self._live.add(task)
        task.add_done_callback(self._live.discard)
        return task

    def __contains__(self, task: asyncio.Task[Any]) -> bool:
        """Whether `task` is one of these."""
        return task in self._live

    def cancel_until_done(self, grace: float, alive: Callable[[], bool], *, force: bool = False) -> None:
        """Cancel the tasks, and keep at it. From any thread.

        Parameters:
            grace: seconds within which cleanup isn't disturbed again.
            alive: says whether there is anybody left to deliver to.
            force: shields don't count, and deliveries are a millisecond apart at first.
        """
        pause = 0.001 if force else 0.75 * grace
        if not self.started and self._shields:
            self.shield_deadline = time.monotonic() + self._budget
        self.started = True

        def again() -> None:
            nonlocal pause
            if not alive():
                return
            self._cancel_all(force)
            self._call_later(pause, again)
            pause = min(2 * max(pause, 0.001), SLOWEST)

        if self.loop is not None:
            try:
                self.loop.call_soon_threadsafe(again)
            except RuntimeError:  # the loop is closed; what lives on it can't run any more
                pass

    def _call_later(self, pause: float, action: Callable[[], None]) -> None:
        assert self.loop is not None
        self.loop.call_later(pause, action)

    def _cancel_all(self, force: bool) -> None:
        for task in list(self._live):
            if not force and task in self._shields:
                self._deferred_cancels.add(task)
            else:
                task.cancel()

    def enter_shield(self, who: object, budget: float | None) -> None:
        """Spare `who`, for `budget` seconds after a cancel."""
        self._shields[who] = self._shields.get(who, 0) + 1
        if budget is not None and not self.started:
            self._budget = max(self._budget, budget)

    def leave_shield(self, who: object) -> None:
        """Spare it no more; deliver what is owed."""
        depth = self._shields.pop(who) - 1
        if depth:
            self._shields[who] = depth
            return
        if not self._shields:
            self.shield_deadline = self._budget = 0.0
        if who in self._deferred_cancels:
            self._deferred_cancels.discard(who)
            if isinstance(who, asyncio.Task):
                who.cancel()

    def stack(self) -> str:
        """Return where the tasks that still live stand, as text."""
        return "".join(_where(task) for task in list(self._live) if not task.done())


def _where(task: asyncio.Task[Any]) -> str:
    """Return the frames of a task, from its outermost coroutine to what it awaits."""
    inside: Any = task.get_coro()
    rows = traceback.StackSummary()
    while inside is not None:
        for kind in ("cr", "gi", "ag"):
            frame = getattr(inside, f"{kind}_frame", None)
            if frame is not None:
                code = frame.f_code
                rows.append(traceback.FrameSummary(code.co_filename, frame.f_lineno, code.co_name))
                break
        inside = getattr(inside, "cr_await", None) or getattr(inside, "gi_yieldfrom", None)
    return "".join(rows.format())


def current_tasks() -> RunTasks | None:
    """Return the tasks that this code belongs to, or None outside of a run."""
    return _current.get()


def set_tasks(tasks: RunTasks) -> None:
    """Make `tasks` those that this context belongs to."""
    _current.set(tasks)
