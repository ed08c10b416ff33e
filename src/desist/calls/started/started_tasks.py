"""The tasks that a call has started on one event loop, beside the task that makes the call."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from desist.calls.started.member import MemberOwner
from desist.cancel.receipt import Abandoned
from desist.runtime.run_tasks import RunTasks
from desist.runtime.timer_thread import timers

__all__ = ["StartedTasks"]

#: Seconds in one and the same task after which the loop counts as blocked, if it hasn't delivered a cancellation.
BLOCKED_AFTER = 0.005
#: Seconds after which a loop that doesn't run counts as stopped: `asyncio.run` closes the loop, in tasks of its own.
QUIET = 0.01
#: Seconds after the end of the last task in which the thread gets no exception: its code is unwinding by the
#: `CancelledError`, and an exception would tear its `finally` blocks. At three quarters of the grace it gets one.
UNWINDING = 1.0
#: Seconds between two polls of the loop, at first and at most.
FIRST, SLOWEST = 0.001, 0.1


class StartedTasks:
    """Tasks on one loop. `add` is called on the loop's thread, mostly; the rest from any thread.

    The fields of the polls are written by the threads that poll: a value that is read too early delays an exception to
    the next attempt.
    """

    kind = "task"
    name = "tasks"

    def __init__(self, loop: asyncio.AbstractEventLoop, work: MemberOwner) -> None:
        self.loop = loop
        self.thread_id = threading.get_ident()  #: the thread in which the loop runs, as far as that is known
        self.started_at = time.time()
        self._work = work
        self._tasks = RunTasks()
        self._tasks.loop = loop
        self._interrupted = False
        self._running: asyncio.Task[Any] | None = None  #: the task that was seen last on the loop
        self._running_since = self._active_at = self._seen_running_at = 0.0

    @property
    def ended(self) -> bool:
        """Whether no task is left that could still run."""
        return not self._tasks.live() or self.loop.is_closed() or self._has_stopped()

    def _has_stopped(self) -> bool:
        """Whether the loop was interrupted and doesn't run any more, so that its tasks are dead."""
        if not self._interrupted or self.loop.is_running():
            self._seen_running_at = time.monotonic()
            return False
        return time.monotonic() > self._seen_running_at + QUIET

    @property
    def shield_deadline(self) -> float:
        """Before this time the tasks must not be abandoned; seconds of `time.monotonic`."""
        return self._tasks.shield_deadline

    def add(self, task: asyncio.Task[Any]) -> None:
        """Take a task over. On the thread that creates it."""
        self._tasks.adopt(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, _: asyncio.Task[Any]) -> None:
        self._active_at = time.monotonic()
        self._work.member_ended(self)

    def interrupt(self, grace: float, force: bool) -> None:
        """Cancel the tasks, again with back-off until they have ended. From any thread; returns at once."""
        self._active_at = self._running_since = time.monotonic()
        self._running = asyncio.current_task(self.loop)
        self._interrupted = True
        self._tasks.cancel_until_done(grace, lambda: bool(self._tasks.live()), force=force)
        self._poll(FIRST)

    def _poll(self, delay: float) -> None:
        """Note the end of tasks whose loop was closed or stopped: they call nothing. In the timer thread, mostly."""
        if self.ended:
            self._work.member_ended(self)
        else:
            timers.call_at(time.monotonic() + delay, lambda: self._poll(min(2 * delay, SLOWEST)))

    def occupy_thread(self) -> bool:
        """Return whether the loop's thread is delivering the cancellation, and so must not get an exception."""
        if not self._interrupted:
            return False
        now = time.monotonic()
        if self._tasks.delivered:
            return not self.ended or self.loop.is_running() or now < self._active_at + UNWINDING
        if self.loop.is_closed():
            return False
        running = asyncio.current_task(self.loop)
        if running is None or running is not self._running:
            self._running, self._running_since = running, now
        return now < self._running_since + BLOCKED_AFTER

    def stack(self) -> str:
        """Return the stacks of the tasks as text."""
        return self._tasks.stack()

    def abandon(self, call: str) -> list[Abandoned]:
        """Return a record of each task that is left."""
        return [
            Abandoned(name=task.get_name(), kind=self.kind, blocked_in=stack or None, call=call)
            for task, stack in self._tasks.stacks()
        ]
