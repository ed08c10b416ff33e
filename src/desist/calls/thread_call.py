"""One blocking call in a worker thread, and the layers that get it out of there.

On cancel, from the canceller's thread: (1) its token is set, which wakes what cooperates; (2) an asynchronous
exception is sent, guarded, unless the call is about to hear from its token anyway; (3) sockets and children that it
is blocked in are taken away, again with back-off until it has heard. Then it is left alone, so that a `finally` in it
can do its work, with sockets and children too. When three quarters of the grace are over, all is repeated with
back-off while it lives. What is left after the grace is abandoned.
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
from desist.runtime.timer_thread import reaper

__all__ = ["ThreadCall", "abandoned_calls", "user_frames"]

log = logging.getLogger("desist.cancel")

#: Seconds between two attempts to unblock a call, at first and at most.
FIRST, SLOWEST = 0.001, 1.0
#: Seconds that a call may take to unwind when it leaves its shield after the grace, before it counts as abandoned.
UNWIND_TIMEOUT = 0.1

_abandoned: set[ThreadCall] = set()


class ThreadCall:
    """One call in a worker thread."""

    __slots__ = (
        "_before",
        "_bell",
        "_budget",
        "_call",
        "_context",
        "_error",
        "_future",
        "_guard",
        "_native_id",
        "_thread_id",
        "_value",
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
        self._bell = waker_for(loop)
        self._future: asyncio.Future[None] = loop.create_future()
        self._value: Any = None
        self._error: BaseException | None = None
        self._guard = AsyncExceptionGuard()
        self._before: list[int] = []  #: children of its thread that calls before it have left
        self._native_id = 0
        self._thread_id: int | None = None
        self.name = name
        self.owner = owner
        self.token = token
        self.interrupt_mode: InterruptMode = interrupt
        self.started_at = time.time()
        self.sockets: list[ref[Any]] = []  #: born in this call
        self.in_token_wait = False  #: it waits in its token, or was told by it
        self.exception_delivered = False  #: the exception has reached it
        self._budget = 0.0  #: seconds that it may take under its shield after a cancel
        self.shielded = 0  #: how many shields it is under
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
        """Wait until it is out, though whoever waited for its result was cancelled; but no longer than this."""
        if self.ended:
            return
        if self._future.cancelled():
            self._future = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._future], timeout=seconds)

    def run(self) -> None:
        """Do the call, in a worker's thread."""
        install_audit_hook()
        self._thread_id, self._native_id = threading.get_ident(), threading.get_native_id()
        self._before = child_pids(self._native_id)
        current_call.call = self
        lower_switch_interval()
        try:
            self.token.check()  # decided: it must not begin, though whoever interrupts may not have come to it yet
            self._value = self._context.run(self._guard.call, self._call)
        except BaseException as caught:
            self._error = caught
        restore_switch_interval()
        current_call.call = None
        if self.token.cancelled and self.interrupt_mode == "auto":
            kill_children(self._native_id, self._before)
        self.ended = True
        self._thread_id = None

    def notify_owner(self) -> None:
        """Say that it is out of its thread. Waking the loop comes last: woken, it wants what this thread holds."""
        if self.owner is not None:
            self.owner.call_ended(self)
        if self.abandoned:
            _abandoned.discard(self)
            how = "returned" if self._error is None else f"raised {type(self._error).__name__}"
            late = time.time() - self.started_at
            ids = self.token.ids
            words = "run %s: abandoned work %r %s after %.2f s; its result is dropped"
            log.info(words, ids["run_id"] if ids else "none", self.name, how, late, extra=ids)
            return
        self._bell.call_soon(self._resolve)

    def _resolve(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    # -- stopping it

    def enter_shield(self, budget: float | None) -> None:
        """Spare it, for `budget` seconds after a cancel."""
        self.shielded += 1
        if budget is not None and not self.token.cancelled:
            self._budget = max(self._budget, budget)

    def leave_shield(self) -> None:
        """Spare it no more."""
        self.shielded -= 1
        if not self.shielded:
            self._budget = 0.0
            self.shield_deadline = min(self.shield_deadline, time.monotonic() + UNWIND_TIMEOUT)

    def interrupt(self, grace: float, *, force: bool = False) -> None:
        """Get it out of its thread, and keep at it. From any thread; returns at once.

        Parameters:
            grace: seconds within which its cleanup isn't disturbed by a second exception.
            force: shields don't count.
        """
        if self.shielded and not self.shield_deadline:
            self.shield_deadline = time.monotonic() + self._budget
        if self.interrupt_mode == "auto" and not self.ended:
            self._interrupt_and_reschedule(FIRST, time.monotonic() + (0.0 if force else 0.75 * grace), force)

    def shorten_grace(self, grace: float) -> None:
        """Nothing is faster than what was done."""

    def _interrupt_and_reschedule(self, pause: float, again_at: float, force: bool, sent: bool = False) -> None:
        if self.ended:
            return
        if force or not self.shielded:
            late = time.monotonic() >= again_at
            if late or not (sent or self.in_token_wait):
                sent = self._guard.interrupt()
            # Ended: its thread may do another call by now, and have children of that.
            spared = lambda: self.ended or (not late and (self.in_token_wait or self.exception_delivered))  # noqa: E731
            unblock(self._native_id, self.sockets, self._before, spared)
        due = time.monotonic() + pause
        if time.monotonic() < again_at:
            due = min(due, again_at)
        reaper.call_at(due, lambda: self._interrupt_and_reschedule(min(2 * pause, SLOWEST), again_at, force, sent))

    def abandon(self) -> Abandoned:
        """Give it up; return how it stands."""
        self.abandoned = True
        _abandoned.add(self)
        if self.ended:
            _abandoned.discard(self)
        return Abandoned(name=self.name, kind="thread", blocked_in=self.stack() or None)

    def stack(self) -> str:
        """Return where the thread is now, as text; "" if it isn't running."""
        thread = self._thread_id
        return user_frames(thread) if thread is not None else ""


#: Where a thread of ours stands before it reaches user code.
_INTERNAL_PATHS = (
    os.path.dirname(os.path.dirname(__file__)) + os.sep,
    threading.__file__,
    os.path.dirname(asyncio.__file__),
)


def user_frames(thread: int) -> str:
    """Return the frames of a thread as text, from where it has left desist's own code for the user's; "" if gone."""
    rows = [(code.co_filename, line, code.co_name, None) for code, line in reversed(sample_stack(thread))]
    first = next((k for k, row in enumerate(rows) if not row[0].startswith(_INTERNAL_PATHS)), 0)
    return "".join(traceback.StackSummary.from_list(rows[first:]).format())


def abandoned_calls() -> list[ThreadCall]:
    """Return the work that was given up and still runs."""
    return list(_abandoned)
