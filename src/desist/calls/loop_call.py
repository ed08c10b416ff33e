"""Where async user code of sync runs lives: loops of its own, so that one that blocks can't hold the others.

A sync `run()` keeps its turns, its model streams and its timers on the home loop. Async tools and function steps run
here. Code that blocks the loop it runs on (`time.sleep` in an `async def`) stops only what shares that loop: calls
that wait to be begun there are moved to another loop after 20 ms, and its own run is settled at its grace.
An async `arun()` runs all of it on the caller's loop, which is the caller's to keep free.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from desist.calls.base import CallOwner, InterruptMode
from desist.calls.thread_call import user_frames
from desist.cancel.receipt import Abandoned
from desist.cancel.token import CancelToken
from desist.runtime.loop_waker import waker_for
from desist.runtime.run_tasks import RunTasks, set_tasks
from desist.runtime.timer_thread import reaper

__all__ = ["LoopCall", "submit_to_user_loop"]

#: Seconds that a call may wait for a loop to take it, before another loop does.
SUBMIT_TIMEOUT = 0.02


class LoopCall:
    """One async call on a user loop. To its run it is like `Work`, a call in a worker thread."""

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
        self._bell = waker_for(loop)
        self._future: asyncio.Future[None] = loop.create_future()
        self._value: Any = None
        self._error: BaseException | None = None
        self._tasks = RunTasks()
        self._thread_id: int | None = None
        self.name = name
        self.owner = owner
        self.token = token
        self.interrupt_mode: InterruptMode = interrupt
        self.started_at = time.time()
        self.abandoned = False
        self.ended = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop on which it lives, once it has begun."""
        return self._tasks.loop

    @property
    def shield_deadline(self) -> float:
        """Until when it must not be given up, in seconds of `time.monotonic`."""
        return self._tasks.shield_deadline

    async def result(self) -> Any:
        """Wait for the call and return what it returned, or raise what it raised."""
        await self._future
        if self._error is not None:
            raise self._error
        return self._value

    async def wait_done(self, seconds: float) -> None:
        """Wait until it is out, though whoever waited for its result was cancelled; but no longer than this."""
        if self.ended:
            return
        if self._future.cancelled():
            self._future = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._future], timeout=seconds)

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start, on the user loop's thread."""
        self._thread_id = threading.get_ident()
        self._tasks.loop = loop
        self._context.run(set_tasks, self._tasks)
        self._tasks.start(self._main(), self._context)

    async def _main(self) -> None:
        try:
            self.token.check()
            self._value = await self._call()
        except BaseException as error:
            self._error = error
        self.ended = True
        if self.owner is not None:
            self.owner.call_ended(self)
        self._bell.call_soon(self._resolve)

    def _resolve(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def interrupt(self, grace: float, *, force: bool = False) -> None:
        """Cancel it, and again with back-off while it lives. From any thread; returns at once."""
        if self.interrupt_mode == "auto":
            self._tasks.cancel_until_done(grace, lambda: not self.ended, force=force)

    def shorten_grace(self, grace: float) -> None:
        """Nothing is faster than what was done."""

    def abandon(self) -> Abandoned:
        """Give it up; return how it stands."""
        self.abandoned = True
        return Abandoned(name=self.name, kind="task", blocked_in=self.stack() or None)

    def stack(self) -> str:
        """Return where it is now, as text: its thread's frames if it blocks the loop, else its task's."""
        loop, thread = self._tasks.loop, self._thread_id
        running = asyncio.current_task(loop) if loop is not None else None
        if running is None or thread is None or not self._tasks.__contains__(running):
            return self._tasks.stack()
        return user_frames(thread) or self._tasks.stack()


class UserLoop:
    """An event loop in a daemon thread, and the calls that wait to be begun on it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._bell = waker_for(self.loop)
        self.blocked = False
        self.waiting: deque[LoopCall] = deque()
        self._watched = False
        threading.Thread(target=self._serve, name="desist-user-loop", daemon=True).start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def submit(self, work: LoopCall) -> None:
        self.waiting.append(work)
        if not self._watched:
            self._watched = True
            reaper.call_at(time.monotonic() + SUBMIT_TIMEOUT, self._move_stuck_calls)
        self._bell.call_soon(self._take)

    def _take(self) -> None:
        self.blocked = False
        try:
            work = self.waiting.popleft()
        except IndexError:  # it was moved
            return
        work.begin(self.loop)

    def _move_stuck_calls(self) -> None:
        """After a while, in the reaper's thread: move what still waits, for this loop doesn't turn."""
        self._watched = False
        moved = []
        while self.waiting:
            try:
                moved.append(self.waiting.popleft())
            except IndexError:
                break
        if moved:
            self.blocked = True
            for work in moved:
                submit_to_user_loop(work)


_loops: list[UserLoop] = []
_lock = threading.Lock()


def submit_to_user_loop(work: LoopCall) -> None:
    """Start an async call on a loop that turns."""
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


os.register_at_fork(after_in_child=_reset_after_fork)
