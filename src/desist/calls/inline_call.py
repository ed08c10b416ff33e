"""One async call of user code in the task that awaits the call: in an async run, on the caller's loop.

The tasks of the run deliver the cancel to the code itself. This class owns what the code starts beside that task.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from desist.calls.base import CallOwner, CallPart, InterruptMode, current_call_owner
from desist.calls.call_end import CallEnd
from desist.calls.started.start_hooks import hook_loop, install_start_hooks
from desist.calls.started.started_work import StartedWork, current_started_work, set_started_work
from desist.calls.thread_execution import user_frames
from desist.calls.thread_pool import cancel_alone, stop_call
from desist.cancel.receipt import Abandoned
from desist.cancel.token import CancelToken, current_token
from desist.runtime.run_tasks import current_tasks, format_task_stack

__all__ = ["InlineCall", "call_inline"]


class InlineCall:
    """One call. Created and run in one task; interrupted from any thread."""

    kind = "task"
    kill_deadline = 0.0  #: a task can't be killed
    interrupt_mode: InterruptMode = "auto"  #: the run's tasks deliver the cancel in any mode

    def __init__(self, name: str, owner: CallOwner | None, parent: CancelToken, interrupt: InterruptMode) -> None:
        self.name, self.owner = name, owner
        self.loop = asyncio.get_running_loop()
        self.started = StartedWork(name, owner, interrupt, parent=parent, tasks=current_tasks())
        self._stopped_alone = False  #: it was cancelled without its run
        self.started_at = time.time()
        self.abandoned = False
        self._task = asyncio.current_task()
        self._returned = False
        self._end = CallEnd(self.loop)

    async def run(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Make the call; return its result or raise its exception. Once."""
        outer = current_started_work()
        set_started_work(self.started)
        try:
            return await call()
        except asyncio.CancelledError:
            self._stopped_alone = self.started.used and cancel_alone(self)
            raise
        finally:
            set_started_work(outer)
            self._returned, self._task = True, None
            self.started.close(lambda: self._end.reached(self))

    @property
    def token(self) -> CancelToken:
        """The token of what the call has started; its own code sees that of the run."""
        return self.started.token

    @property
    def ended(self) -> bool:
        """Whether the code has returned or raised, and all that it had started has ended, if it was cancelled."""
        return self._end.ended

    @property
    def shield_deadline(self) -> float:
        """Before this time the call must not be abandoned; seconds of `time.monotonic`."""
        return self.started.shield_deadline()

    async def wait_stopped(self) -> None:
        """Stop what a call has started that was cancelled without its run, and wait for that a short while."""
        if self._stopped_alone:
            await stop_call(self)

    async def result(self) -> Any:
        """Not used: the task that makes the call has the result."""
        raise NotImplementedError

    async def wait_done(self, seconds: float) -> None:
        """Wait until all of the call has ended, at most `seconds`."""
        await self._end.wait(seconds)

    def interrupt(self, grace: float, *, force: bool = False) -> None:
        """Interrupt what the call has started. From any thread; returns at once."""
        self.started.interrupt(grace, force=force)

    def shorten_grace(self, grace: float) -> None:
        """Do nothing: all is already being interrupted as fast as possible."""

    def parts(self) -> list[CallPart]:
        """Return the parts of the call that haven't ended."""
        return [*([] if self._returned else [self]), *self.started.parts()]

    def abandon(self) -> list[Abandoned]:
        """Mark the call abandoned; return a record of each part that hasn't ended."""
        self.abandoned = True
        own = [] if self._returned else [Abandoned(name=self.name, kind="task", blocked_in=self.stack() or None)]
        return own + self.started.abandon()

    def stack(self) -> str:
        """Return the stack of the call as text: of the loop's thread while that runs the task, else of the task."""
        task = self._task
        if task is None:
            return ""
        thread = getattr(self.loop, "_thread_id", None)  # no documented way tells the thread of a loop
        running = asyncio.current_task(self.loop) is task
        return (user_frames(thread) if running and thread is not None else "") or format_task_stack(task)


async def call_inline(call: Callable[[], Awaitable[Any]], name: str, interrupt: InterruptMode) -> Any:
    """Call async user code in this task and return its result.

    Raises:
        RunCancelled: the run was cancelled before the call could start.
    """
    install_start_hooks()
    work = InlineCall(name, current_call_owner(), current_token(), interrupt)
    loop_class: Any = type(work.loop)
    hook_loop(loop_class)
    if work.owner is not None:
        work.owner.call_started(work)
    try:
        return await work.run(call)
    except asyncio.CancelledError:
        await work.wait_stopped()
        raise
