"""One blocking call in a worker thread, awaited on a loop."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable
from typing import Any

from desist.calls.abandoned_threads import add_abandoned_thread, remove_abandoned_thread
from desist.calls.base import CallOwner, CallPart, InterruptMode
from desist.calls.call_end import CallEnd, release_frames
from desist.calls.started.start_hooks import install_start_hooks
from desist.calls.started.started_work import StartedWork, set_started_work
from desist.calls.thread_execution import ThreadExecution
from desist.cancel.receipt import Abandoned
from desist.cancel.token import CancelToken
from desist.runtime.loop_waker import waker_for
from desist.runtime.switch_interval import lower_switch_interval, restore_switch_interval

__all__ = ["ThreadCall"]

log = logging.getLogger("desist.cancel")


class ThreadCall:
    """One call in a worker thread.

    Three threads work with it: the loop's thread creates it and awaits `result`; one worker thread calls `run` and
    `notify_owner`; the canceller's thread and the timer thread interrupt it. `execution` is the code in the worker
    thread, `started` is what that code has started.
    """

    __slots__ = (
        "_call", "_context", "_end", "_error", "_future", "_value", "_waker", "abandoned", "execution", "name", "owner",
        "started", "started_at", "token",
    )  # fmt: skip
    kind = "thread"
    kill_deadline = 0.0  #: a thread can't be killed

    def __init__(
        self, call: Callable[[], Any], name: str, owner: CallOwner | None, token: CancelToken, interrupt: InterruptMode
    ) -> None:
        self._call = call
        loop = asyncio.get_running_loop()
        self._waker = waker_for(loop)
        self._future: asyncio.Future[None] = loop.create_future()
        self._value: Any = None
        self._error: BaseException | None = None
        self._end = CallEnd(loop)
        self.name = name
        self.owner = owner
        self.token = token
        self.started = StartedWork(name, owner, interrupt, parent=token, token=token)
        self._context = contextvars.copy_context()
        self._context.run(set_started_work, self.started)
        self.execution = ThreadExecution(token, interrupt, self.started)
        self.started_at = time.time()
        self.abandoned = False

    @property
    def interrupt_mode(self) -> InterruptMode:
        """How the call may be interrupted."""
        return self.execution.interrupt_mode

    @property
    def ended(self) -> bool:
        """Whether the code has returned or raised, and all that it had started has ended, if it was cancelled."""
        return self._end.ended

    @property
    def shield_deadline(self) -> float:
        """Before this time the call must not be abandoned; seconds of `time.monotonic`."""
        return max(self.execution.shield_deadline, self.started.shield_deadline())

    async def result(self) -> Any:
        """Wait for the call and return what it returned, or raise what it raised."""
        await self._future
        if self._error is not None:
            raise self._error
        return self._value

    async def wait_done(self, seconds: float) -> None:
        """Wait until all of the call has ended, at most `seconds`. On the loop's thread."""
        await self._end.wait(seconds)

    def run(self) -> None:
        """Make the call. Once, in a worker thread."""
        install_start_hooks()
        lower_switch_interval()
        try:
            self._value = self._context.run(self.execution.run, self._call)
        except BaseException as caught:
            self._error = caught
            if self.token.cancelled:
                release_frames(caught)
        restore_switch_interval()

    def notify_owner(self) -> None:
        """Notify the owner that the call has ended, then wake the loop that awaits it. Once, in the worker thread.

        The thread is back in its pool by now. The owner comes first: the run must count the call as ended when its
        own code goes on. Waking the loop comes last because the woken loop competes for the GIL, which this thread
        holds.
        """
        if self.abandoned:
            remove_abandoned_thread(self)
            self._log_late_end()
        self.started.close(lambda: self._end.reached(self))
        if not self.abandoned:
            self._waker.call_soon(self._resolve)

    def _log_late_end(self) -> None:
        result = "returned" if self._error is None else f"raised {type(self._error).__name__}"
        seconds = time.time() - self.started_at
        ids = self.token.ids
        message = "run %s: abandoned call %r %s after %.2f s; its result is dropped"
        log.info(message, ids["run_id"] if ids else "none", self.name, result, seconds, extra=ids)

    def _resolve(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def interrupt(self, grace: float, *, force: bool = False) -> None:
        """Interrupt the call and all that it has started, and repeat that until it has ended. See `ThreadExecution`."""
        self.started.interrupt(grace, force=force, main=self.execution)

    def shorten_grace(self, grace: float) -> None:
        """Do nothing: a thread call is already being interrupted as fast as possible."""

    def parts(self) -> list[CallPart]:
        """Return the parts of the call that haven't ended."""
        return [*([] if self.execution.ended else [self]), *self.started.parts()]

    def abandon(self) -> list[Abandoned]:
        """Mark the call abandoned; return a record of each part that hasn't ended. A second call changes nothing."""
        self.abandoned = True
        own: list[Abandoned] = []
        if not self.execution.ended:
            add_abandoned_thread(self)
            waits_for = self.execution.waits_for()
            own = [Abandoned(name=self.name, kind="thread", blocked_in=self.stack() or None, waits_for=waits_for)]
        return own + self.started.abandon()

    def stack(self) -> str:
        """Return the stack of the call as text; "" if it isn't running. From any thread."""
        return self.execution.stack()
