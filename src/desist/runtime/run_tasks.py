"""The asyncio tasks of a run, and how a cancel is delivered to them.

An asyncio cancellation is delivered at one `await`; code that swallows it goes on. Delivering it at every await (as
level-triggered scopes do) would break the `await` in a user's `finally`, which guarantee 11 lets run. So a cancel is
delivered at once, again when three quarters of the grace are over, then with back-off until the tasks have ended.

In between, a cancellation that was swallowed is delivered again: `asyncio.wait_for` of Python 3.11 loses one that
meets a result. Each cancellation carries a message object. As long as that object lives, an exception with it is on
its way or is being handled. When it is gone, the task goes on, and no frame of it is in a handler, then the task has
lost its cancel.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
import traceback
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any
from weakref import WeakKeyDictionary, ref

from desist.runtime.suspended_handlers import is_in_handler

__all__ = ["RunTasks", "current_tasks", "format_task_stack", "set_tasks"]

_current: contextvars.ContextVar[RunTasks | None] = contextvars.ContextVar("desist_tasks", default=None)

#: Seconds between deliveries at most.
SLOWEST = 1.0
#: Seconds between two looks for swallowed cancellations, at first and at most.
FIRST_LOOK, SLOWEST_LOOK = 0.0005, 0.05
#: In how many turns of the loop in succession a cancellation that was lost is delivered again.
TURNS = 8

#: The tasks that user code has created, each with the tasks of its call and the task that has created it.
_adopted: WeakKeyDictionary[asyncio.Task[Any], tuple[RunTasks, ref[asyncio.Task[Any]] | None]] = WeakKeyDictionary()


class _Message(str):
    """The message of a cancellation; unlike a plain string it can be referred to weakly."""

    __slots__ = ("__weakref__",)


class RunTasks:
    """The tasks of one run, all on one loop. A cancel of a task in a shield is deferred until the task leaves it.

    All fields but `loop`, `started` and `shield_deadline` belong to the thread of the loop; those three are also read
    and written by cancellers, without a lock: each is a single assignment.
    """

    __slots__ = (
        "_budget", "_deferred_cancels", "_live", "_messages", "_shields", "delivered", "loop", "shield_deadline",
        "started",
    )  # fmt: skip

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.started = False  #: whether a cancel was requested
        self.delivered = False  #: whether the loop has delivered a cancel
        self.shield_deadline = 0.0  #: seconds of `time.monotonic`
        self._live: set[asyncio.Task[Any]] = set()
        self._shields: dict[object, int] = {}
        self._budget = 0.0  #: seconds that the current shields may last after a cancel
        self._deferred_cancels: set[object] = set()
        self._messages: dict[asyncio.Task[Any], ref[_Message]] = {}  #: of the last cancellation of each task

    def start(self, work: Coroutine[Any, Any, Any], context: Context | None = None) -> asyncio.Task[Any]:
        """Start a task of this run. On the thread of the loop."""
        assert self.loop is not None
        task = self.loop.create_task(work, context=context)
        self._live.add(task)
        task.add_done_callback(self._discard)
        return task

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Take over a task that user code has created on the loop. On the thread that created it."""
        self._live.add(task)
        creator = asyncio.current_task(self.loop)
        _adopted[task] = self, None if creator is None else ref(creator)
        task.add_done_callback(self._discard)

    def _discard(self, task: asyncio.Task[Any]) -> None:
        self._live.discard(task)
        self._messages.pop(task, None)

    def live(self) -> list[asyncio.Task[Any]]:
        """Return the tasks that haven't ended. From any thread."""
        return [task for task in list(self._live) if not task.done()]

    def __contains__(self, task: asyncio.Task[Any]) -> bool:
        """Whether `task` belongs to this run and hasn't ended."""
        return task in self._live

    def cancel_until_done(self, grace: float, is_alive: Callable[[], bool], *, force: bool = False) -> None:
        """Cancel the tasks, and repeat that until they have ended. From any thread; returns at once.

        Every delivery runs on the thread of the loop: `Task.cancel` isn't thread-safe. A blocked loop delivers late. A
        second call (a forced cancel after an ordinary one) starts a second series beside the first; both end when
        `is_alive()` is false. A run that was cancelled before it got a loop has no tasks, and none are started.

        Parameters:
            grace: seconds in which cleanup isn't cancelled a second time.
            is_alive: whether a task is left; called on the thread of the loop.
            force: ignore shields, and repeat after a millisecond at first.
        """
        delay = 0.001 if force else 0.75 * grace
        # A shield that is left just now may leave a stale deadline behind: then the run only waits longer before it
        # abandons a task that doesn't end.
        if not self.started and self._shields:
            self.shield_deadline = time.monotonic() + self._budget
        self.started = True

        def deliver() -> None:
            nonlocal delay
            self.delivered = True
            if not is_alive():
                return
            self._cancel_all(force)
            self._call_later(delay, deliver)
            delay = min(2 * max(delay, 0.001), SLOWEST)

        def look(pause: float) -> None:
            if is_alive():
                # The next one is likely to be lost as well, where tokens come fast: don't fall behind.
                slower = 1.1 if self._cancel_swallowed(force, TURNS) else 2.0
                self._call_later(pause, lambda: look(min(slower * pause, SLOWEST_LOOK)))

        if self.loop is not None:
            try:
                self.loop.call_soon_threadsafe(deliver)
                self.loop.call_soon_threadsafe(self._call_later, FIRST_LOOK, lambda: look(2 * FIRST_LOOK))
            except RuntimeError:  # the loop is closed: no task of it can run any more
                pass

    def _call_later(self, delay: float, action: Callable[[], None]) -> None:
        assert self.loop is not None
        self.loop.call_later(delay, action)

    def _cancel_all(self, force: bool) -> None:
        """Cancel every live task. On the thread of the loop. A deferred cancel is delivered once, however often due."""
        for task in list(self._live):
            if not force and task in self._shields:
                self._deferred_cancels.add(task)
            else:
                self._cancel(task)

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        assert self.loop is not None
        message = _Message("the run was cancelled")
        self._messages[task] = ref(message)
        task.cancel(message)
        self.loop.call_soon(_forget_message, task, ref(message))

    def _cancel_swallowed(self, force: bool, turns: int) -> bool:
        """Cancel the tasks again that have lost their cancellation; return whether there are any.

        On the thread of the loop. After a loss this is repeated in the next `turns` turns of the loop, as a task that
        always has a result may lose each cancellation that comes in the same one of its steps.
        """
        any_lost = False
        for task, message in list(self._messages.items()):
            if message() is not None or task.done() or (task in self._shields and not force):
                continue
            if not is_in_handler(task.get_coro()):
                any_lost = True
                self._cancel(task)
                self._cancel_created_by(task)
        if any_lost and turns and self.loop is not None:
            self.loop.call_soon(self._cancel_swallowed, force, turns - 1)
        return any_lost

    def _cancel_created_by(self, creator: asyncio.Task[Any]) -> None:
        """Cancel the tasks that a task has created since its cancellation, which it has lost. On the loop's thread.

        `asyncio.wait_for` of Python 3.11 loses every cancellation while its inner task always ends in one step: cancel
        that as well, before its first step.
        """
        for task in asyncio.all_tasks(self.loop):
            tasks, by = _adopted.get(task, (self, None))
            if by is not None and by() is creator and task not in tasks._messages and task not in tasks._shields:
                tasks._cancel(task)

    def enter_shield(self, task: object, budget: float | None) -> None:
        """Defer cancels of `task`, after a cancel for at most `budget` seconds. On the thread of the loop.

        Shields nest: the longest budget holds. A budget that is asked for after the cancel doesn't count.
        """
        self._shields[task] = self._shields.get(task, 0) + 1
        if budget is not None and not self.started:
            self._budget = max(self._budget, budget)

    def leave_shield(self, task: object) -> None:
        """Stop deferring cancels if this was the outermost shield, and deliver a deferred one at the next `await`."""
        depth = self._shields.pop(task) - 1
        if depth:
            self._shields[task] = depth
            return
        if not self._shields:
            self.shield_deadline = self._budget = 0.0
        if task in self._deferred_cancels:
            self._deferred_cancels.discard(task)
            if isinstance(task, asyncio.Task):
                self._cancel(task)

    def stacks(self) -> list[tuple[asyncio.Task[Any], str]]:
        """Return the live tasks, each with its stack as text. From any thread."""
        return [(task, format_task_stack(task)) for task in self.live()]

    def stack(self) -> str:
        """Return the stacks of the live tasks as text. From any thread."""
        return "".join(stack for _, stack in self.stacks())


def _forget_message(task: asyncio.Task[Any], message: ref[_Message]) -> None:
    """Have a task drop the message of a cancellation that has been raised in it by now. On the thread of the loop.

    A task that was about to go on when it was cancelled keeps the message for good, and no documented way tells so. The
    step that raises the cancellation was scheduled before this.
    """
    if getattr(task, "_cancel_message", None) is message():
        with contextlib.suppress(AttributeError):
            task._cancel_message = None  # type: ignore[attr-defined]


def format_task_stack(task: asyncio.Task[Any]) -> str:
    """Return the frames of a task as text, from its outermost coroutine to the innermost one."""
    inner: Any = task.get_coro()
    rows = traceback.StackSummary()
    while inner is not None:
        for kind in ("cr", "gi", "ag"):
            frame = getattr(inner, f"{kind}_frame", None)
            if frame is not None:
                code = frame.f_code
                rows.append(traceback.FrameSummary(code.co_filename, frame.f_lineno, code.co_name))
                break
        inner = getattr(inner, "cr_await", None) or getattr(inner, "gi_yieldfrom", None)
    return "".join(rows.format())


def current_tasks() -> RunTasks | None:
    """Return the tasks of the run or call that the current task belongs to, or None outside of a run."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return _current.get()
    adopted = _adopted.get(task) if task is not None and _adopted else None
    return _current.get() if adopted is None else adopted[0]


def set_tasks(tasks: RunTasks) -> None:
    """Make `tasks` the tasks of this context's run."""
    _current.set(tasks)
