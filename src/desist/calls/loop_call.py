"""Async user code of sync runs, on event loops of its own.

A sync `run()` keeps its turns, its model streams and its timers on the background loop. Async tools and function steps
run on user loops. Code that blocks its loop (`time.sleep` in an `async def`) stops only the calls on that loop: calls
that have not started there are moved to another loop after 20 ms, and the run of the blocking call is settled when its
grace is over. An async `arun()` runs all code on the caller's loop, which the caller must keep free.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from desist.calls.base import CallOwner, CallPart, InterruptMode
from desist.calls.call_end import CallEnd
from desist.calls.started.start_hooks import install_start_hooks
from desist.calls.started.started_work import StartedWork, set_started_work
from desist.calls.thread_execution import user_frames
from desist.cancel.receipt import Abandoned
from desist.cancel.token import CancelToken
from desist.runtime.daemon_thread import start_daemon_thread
from desist.runtime.fork_hooks import register_at_fork
from desist.runtime.loop_waker import waker_for
from desist.runtime.run_tasks import RunTasks, set_tasks
from desist.runtime.timer_thread import timers

__all__ = ["LoopCall", "submit_to_user_loop"]

#: Seconds that a call may wait to be started by a loop, before the call is moved to another loop.
SUBMIT_TIMEOUT = 0.02


class LoopCall:
    """One async call on a user loop; the counterpart of `ThreadCall`.

    Created and awaited on the background loop's thread, started and run on the thread of a user loop, interrupted from
    any thread.
    """

    kind = "task"

    kill_deadline = 0.0  #: a task can't be killed

    def __init__(
        self,
        call: Callable[[], Awaitable[Any]],
        name: str,
        owner: CallOwner | None,
        token: CancelToken,
        interrupt: InterruptMode,
    ) -> None:
        self._call = call
        self._context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        self._waker = waker_for(loop)
        self._future: asyncio.Future[None] = loop.create_future()
        self._value: Any = None
        self._error: BaseException | None = None
        self._tasks = RunTasks()
        self._thread_id: int | None = None
        self._end = CallEnd(loop)
        self._returned = False  #: its own code has ended
        self.started = StartedWork(name, owner, interrupt, parent=token, token=token, tasks=self._tasks)
        self.name = name
        self.owner = owner
        self.token = token
        self.interrupt_mode: InterruptMode = interrupt
        self.started_at = time.time()
        self.abandoned = False

    @property
    def ended(self) -> bool:
        """Whether the code has returned or raised, and all that it had started has ended, if it was cancelled."""
        return self._end.ended

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The user loop of the call, once it has started."""
        return self._tasks.loop

    @property
    def shield_deadline(self) -> float:
        """Before this time the call must not be abandoned; seconds of `time.monotonic`."""
        return max(self._tasks.shield_deadline, self.started.shield_deadline())

    async def result(self) -> Any:
        """Wait for the call and return what it returned, or raise what it raised."""
        await self._future
        if self._error is not None:
            raise self._error
        return self._value

    async def wait_done(self, seconds: float) -> None:
        """Wait until all of the call has ended, at most `seconds`. On the awaiting loop."""
        await self._end.wait(seconds)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the call, once, on the thread of the user loop.

        A cancel before this finds no loop to deliver to; `_main` checks the token, so the call doesn't start.
        """
        install_start_hooks()
        self._thread_id = threading.get_ident()
        self._tasks.loop = loop
        self._context.run(set_tasks, self._tasks)
        self._tasks.start(self._main(), self._context)

    async def _main(self) -> None:
        set_started_work(self.started)  # here: this task itself isn't started by the call
        try:
            self.token.check()
            self._value = await self._call()
        except BaseException as error:
            self._error = error
        self._returned = True
        # First: the run must count the call as ended when its own code goes on.
        self.started.close(lambda: self._end.reached(self))
        self._waker.call_soon(self._resolve)

    def _resolve(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def interrupt(self, grace: float, *, force: bool = False) -> None:
        """Cancel the task and what it has started, again with back-off. From any thread; returns at once."""
        if self.interrupt_mode == "auto":
            self._tasks.cancel_until_done(grace, lambda: not self._returned, force=force)
        self.started.interrupt(grace, force=force)

    def shorten_grace(self, grace: float) -> None:
        """Do nothing: the task is already being cancelled as fast as possible."""

    def parts(self) -> list[CallPart]:
        """Return the parts of the call that haven't ended."""
        return [*([] if self._returned else [self]), *self.started.parts()]

    def abandon(self) -> list[Abandoned]:
        """Mark the call abandoned; return a record of each part that hasn't ended."""
        self.abandoned = True
        own = [] if self._returned else [Abandoned(name=self.name, kind="task", blocked_in=self.stack() or None)]
        return own + self.started.abandon()

    def stack(self) -> str:
        """Return the stack of the call as text. From any thread.

        That is the stack of the loop's thread while the call runs on it (it may block the loop), else of its tasks.
        """
        loop, thread = self._tasks.loop, self._thread_id
        running = asyncio.current_task(loop) if loop is not None else None
        if running is None or thread is None or running not in self._tasks:
            return self._tasks.stack()
        return user_frames(thread) or self._tasks.stack()


class UserLoop:
    """An event loop in a daemon thread, and the calls that wait to be started on it.

    Any thread appends to `waiting`, the loop's thread and the timer thread take from it. Each `popleft` is atomic, so
    a call is started once, on one loop: by the loop that takes it, or by another one that it was moved to.
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._waker = waker_for(self.loop)
        self.blocked = False  #: it did not start a call in time; it gets no calls until it turns again
        self.waiting: deque[LoopCall] = deque()
        self._poll_scheduled = False
        try:
            start_daemon_thread(self._serve, "desist-user-loop")
        except RuntimeError:
            self.loop.close()
            raise

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def submit(self, work: LoopCall) -> None:
        """Have the loop start a call. From any thread.

        The call is in `waiting` before the poll is scheduled: a poll that is under way has reset the flag first, so
        either it finds the call or a new poll is scheduled.
        """
        self.waiting.append(work)
        if not self._poll_scheduled:
            self._poll_scheduled = True
            timers.call_at(time.monotonic() + SUBMIT_TIMEOUT, self._move_stuck_calls)
        self._waker.call_soon(self._start_next)

    def _start_next(self) -> None:
        """Start the next call. On the loop's thread, once for each submitted call."""
        self.blocked = False
        try:
            work = self.waiting.popleft()
        except IndexError:  # the call was moved to another loop
            return
        work.start(self.loop)

    def _move_stuck_calls(self) -> None:
        """Move the calls that still wait: this loop is blocked. In the timer thread."""
        self._poll_scheduled = False
        moved = []
        while self.waiting:
            try:
                moved.append(self.waiting.popleft())
            except IndexError:
                break
        if moved:
            self.blocked = True  # before they are submitted, or this loop could get them again
            for work in moved:
                submit_to_user_loop(work)


_loops: list[UserLoop] = []
_lock = threading.Lock()


def submit_to_user_loop(work: LoopCall) -> None:
    """Start an async call on a user loop that isn't blocked; on a new one if need be. From any thread."""
    with _lock:
        free = next((loop for loop in _loops if not loop.blocked), None)
        if free is None:
            free = UserLoop()
            _loops.append(free)
    free.submit(work)


def _reset_after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _loops.clear()


register_at_fork(after_in_child=_reset_after_fork)
