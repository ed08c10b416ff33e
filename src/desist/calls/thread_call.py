"""One blocking call in a worker thread, and the layers that interrupt the call.

On cancel, from the canceller's thread: (1) the token of the call is cancelled, which wakes cooperative waits; (2) an
asynchronous exception is sent, unless the call is in a wait on its token; (3) sockets and child processes that the
thread is blocked on are shut down and killed, again with back-off until the exception was delivered. After that the
call is left alone, so that its `finally` blocks can use sockets and child processes. When three quarters of the grace
are over, all layers are repeated with back-off until the call ends. A call that is left after the grace is abandoned.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any
from weakref import ref

from desist.calls.async_exception import AsyncExceptionGuard
from desist.calls.base import CallOwner, InterruptMode
from desist.calls.blocking_syscalls import child_pids, install_audit_hook, kill_children, unblock
from desist.cancel.context import current_call
from desist.cancel.receipt import Abandoned
from desist.cancel.token import CancelToken
from desist.runtime.loop_waker import waker_for
from desist.runtime.stack_sampling import sample_stack
from desist.runtime.switch_interval import lower_switch_interval, restore_switch_interval
from desist.runtime.timer_thread import timers

__all__ = ["ThreadCall", "abandoned_calls", "user_frames"]

log = logging.getLogger("desist.cancel")

#: Seconds between two attempts to unblock a call, at first and at most.
FIRST, SLOWEST = 0.001, 1.0
#: Seconds that a call may take to unwind when it leaves its shield after the grace, before it counts as abandoned.
UNWIND_TIMEOUT = 0.1

_abandoned: set[ThreadCall] = set()


class ThreadCall:
    """One call in a worker thread.

    Three threads work with it: the loop's thread creates it and awaits `result`; one worker thread calls `run` and
    `notify_owner`, and is the only one that enters and leaves shields; the canceller's thread and the timer thread
    interrupt it. The fields have no lock of their own: each is a single assignment by one thread, and a reader that
    sees the old value interrupts once more or once less, which the next attempt makes up for. Only sending the
    exception needs a lock; the guard has it.
    """

    __slots__ = (
        "_budget",
        "_call",
        "_context",
        "_earlier_children",
        "_error",
        "_future",
        "_guard",
        "_native_id",
        "_thread_id",
        "_value",
        "_waker",
        "abandoned",
        "ended",
        "exception_delivered",
        "in_token_wait",
        "interrupt_mode",
        "name",
        "owner",
        "shield_deadline",
        "shielded",
        "sockets",
        "started_at",
        "token",
    )  # fmt: skip
    kind = "thread"
    kill_deadline = 0.0  #: a thread can't be killed

    def __init__(
        self, call: Callable[[], Any], name: str, owner: CallOwner | None, token: CancelToken, interrupt: InterruptMode
    ) -> None:
        self._call = call
        self._context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        self._waker = waker_for(loop)
        self._future: asyncio.Future[None] = loop.create_future()
        self._value: Any = None
        self._error: BaseException | None = None
        self._guard = AsyncExceptionGuard()
        self._earlier_children: list[int] = []  #: children of the thread that earlier calls have left; never killed
        self._native_id = 0
        self._thread_id: int | None = None
        self.name = name
        self.owner = owner
        self.token = token
        self.interrupt_mode: InterruptMode = interrupt
        self.started_at = time.time()
        self.sockets: list[ref[Any]] = []  #: born in this call
        self.in_token_wait = False  #: it waits on its token, or its token has raised `RunCancelled`
        self.exception_delivered = False  #: the injected exception was raised in it
        self._budget = 0.0  #: seconds that the current shield may last after a cancel
        self.shielded = 0  #: how many shields it is in
        self.shield_deadline = 0.0  #: seconds of `time.monotonic`
        self.abandoned = False
        self.ended = False

    async def result(self) -> Any:
        """Wait for the call and return what it returned, or raise what it raised."""
        await self._future
        if self._error is not None:
            raise self._error
        return self._value

    async def wait_done(self, seconds: float) -> None:
        """Wait until the call has ended, at most `seconds`. On the loop's thread, after `result` was cancelled."""
        if self.ended:
            return
        # The worker may end right here: `_resolve` runs on this loop, so it runs after the new future is in place.
        if self._future.cancelled():
            self._future = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._future], timeout=seconds)

    def run(self) -> None:
        """Make the call. Once, in a worker thread."""
        install_audit_hook()
        self._thread_id, self._native_id = threading.get_ident(), threading.get_native_id()
        self._earlier_children = child_pids(self._native_id)
        current_call.call = self  # before the user's code: an injected exception reads it
        lower_switch_interval()
        try:
            self.token.check()  # a cancel was decided, and the canceller may not have reached this call yet
            self._value = self._context.run(self._guard.call, self._call)
        except BaseException as caught:
            self._error = caught
        # From here on no exception can land in this thread: the guard was left.
        restore_switch_interval()
        current_call.call = None
        if self.token.cancelled and self.interrupt_mode == "auto":
            kill_children(self._native_id, self._earlier_children)
        self.ended = True  # after the children are gone: the owner may take the call for finished from here on
        self._thread_id = None

    def notify_owner(self) -> None:
        """Tell the owner that the call has ended, then wake the loop that awaits it. Once, in the worker thread.

        The thread is back in its pool by now. The owner comes first: the run must count the call as ended when its
        own code goes on. Waking the loop comes last because the woken loop competes for the GIL, which this thread
        holds.
        """
        if self.owner is not None:
            self.owner.call_ended(self)
        if self.abandoned:
            _abandoned.discard(self)
            result = "returned" if self._error is None else f"raised {type(self._error).__name__}"
            seconds = time.time() - self.started_at
            ids = self.token.ids
            message = "run %s: abandoned call %r %s after %.2f s; its result is dropped"
            log.info(message, ids["run_id"] if ids else "none", self.name, result, seconds, extra=ids)
            return
        self._waker.call_soon(self._resolve)

    def _resolve(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    # -- interruption

    def enter_shield(self, budget: float | None) -> None:
        """Hold interruptions back, after a cancel for at most `budget` seconds. In the worker thread.

        Shields nest: the longest budget holds. A budget that is asked for after the cancel doesn't count.
        """
        self.shielded += 1
        if budget is not None and not self.token.cancelled:
            self._budget = max(self._budget, budget)

    def leave_shield(self) -> None:
        """Stop holding interruptions back, if this was the outermost shield. In the worker thread.

        The caller checks its token next. After a cancel some time is left for unwinding: the timer thread may poll in
        between, and the grace may be over. The deadline only ever becomes earlier, so shield after shield doesn't
        postpone the end.
        """
        self.shielded -= 1
        if not self.shielded:
            self._budget = 0.0
            self.shield_deadline = min(self.shield_deadline, time.monotonic() + UNWIND_TIMEOUT)

    def interrupt(self, grace: float, *, force: bool = False) -> None:
        """Interrupt the call, and repeat that until it has ended. From any thread; returns at once.

        A second call (a forced cancel after an ordinary one) starts a second series of attempts beside the first;
        both end with the call.

        Parameters:
            grace: seconds in which cleanup isn't interrupted a second time.
            force: ignore shields.
        """
        # Before the mode is looked at: the deadline of a shield holds for a call that is stopped by its token, too.
        if self.shielded and not self.shield_deadline:
            self.shield_deadline = time.monotonic() + self._budget
        if self.interrupt_mode == "auto" and not self.ended:
            self._interrupt_and_reschedule(FIRST, time.monotonic() + (0.0 if force else 0.75 * grace), force)

    def shorten_grace(self, grace: float) -> None:
        """Do nothing: a thread call is already being interrupted as fast as possible."""

    def _interrupt_and_reschedule(self, delay: float, repeat_at: float, force: bool, sent: bool = False) -> None:
        """Make one attempt and schedule the next one. First in the canceller's thread, then in the timer thread.

        Parameters:
            delay: seconds until the next attempt; doubled each time.
            repeat_at: from this time on (`time.monotonic`) a call that knows of its cancel is interrupted again.
            sent: whether the exception was sent by an earlier attempt.
        """
        if self.ended:
            return
        if force or not self.shielded:
            late = time.monotonic() >= repeat_at
            if late or not (sent or self.in_token_wait):
                sent = self._guard.interrupt()
            # Evaluated after the system was asked what the thread is blocked in, and before that is taken away. If the
            # call has ended, the thread may make another call, and what was found may be that call's.
            skip_if = lambda: self.ended or (not late and (self.in_token_wait or self.exception_delivered))  # noqa: E731
            unblock(self._native_id, self.sockets, self._earlier_children, skip_if)
        now = time.monotonic()
        next_at = min(now + delay, repeat_at) if now < repeat_at else now + delay
        timers.call_at(next_at, lambda: self._interrupt_and_reschedule(min(2 * delay, SLOWEST), repeat_at, force, sent))

    def abandon(self) -> Abandoned:
        """Mark the call abandoned and return a record of where it is blocked. With the lock of the run held, or none.

        The worker sets `ended` before it reads `abandoned`, and this writes in the opposite order: so the call leaves
        the set, whichever thread comes first. A second call changes nothing.
        """
        self.abandoned = True
        _abandoned.add(self)
        if self.ended:
            _abandoned.discard(self)
        return Abandoned(name=self.name, kind="thread", blocked_in=self.stack() or None)

    def stack(self) -> str:
        """Return the stack of the call as text; "" if it isn't running. From any thread."""
        thread = self._thread_id
        return user_frames(thread) if thread is not None else ""


#: Files whose frames lie between the start of a worker thread and user code.
_INTERNAL_PATHS = (
    os.path.dirname(os.path.dirname(__file__)) + os.sep,
    threading.__file__,
    os.path.dirname(asyncio.__file__),
)


def user_frames(thread: int) -> str:
    """Return the frames of a thread as text, from the first frame of user code on; "" if the thread is gone."""
    rows = [(code.co_filename, line, code.co_name, None) for code, line in reversed(sample_stack(thread))]
    first = next((k for k, row in enumerate(rows) if not row[0].startswith(_INTERNAL_PATHS)), 0)
    return "".join(traceback.StackSummary.from_list(rows[first:]).format())


def abandoned_calls() -> list[ThreadCall]:
    """Return the abandoned calls that still run."""
    return list(_abandoned)
