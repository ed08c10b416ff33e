"""User code in one thread, and the layers that interrupt that code.

On cancel, from the canceller's thread: (1) the token is cancelled, which wakes cooperative waits; (2) an asynchronous
exception is sent, unless the code is in a wait on its token; (3) what the thread is blocked on is taken away: sockets
are shut down, child processes killed, a wait on a condition is woken; again with back-off until the exception was
delivered. After that the code is left alone, so that its `finally` blocks can use sockets and child processes. When
three quarters of the grace are over, all layers are repeated with back-off until the code ends.

A thread that runs an event loop is left alone at first: the tasks of the call on that loop are cancelled, so that their
`finally` blocks run. Only a loop that doesn't turn, because its thread is in blocking code, is interrupted like that
code.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, Protocol, TypeVar
from weakref import ref

from desist.calls.async_exception import AsyncExceptionGuard
from desist.calls.base import InterruptMode
from desist.calls.blocking_syscalls import describe_wait
from desist.calls.child_processes import child_pids, descendant_pids, kill, kill_children
from desist.calls.condition_wakeup import wake_condition
from desist.calls.socket_shutdown import shut_down_sockets
from desist.cancel.context import current_call
from desist.cancel.token import CancelToken
from desist.runtime.stack_sampling import sample_stack
from desist.runtime.timer_thread import timers

__all__ = ["ThreadExecution", "WorkAround", "user_frames"]

T = TypeVar("T")

#: Seconds between two attempts to interrupt, at first and at most.
FIRST, SLOWEST = 0.001, 1.0
#: Seconds that code may take to unwind when it leaves its shield after the grace, before it counts as abandoned.
UNWIND_TIMEOUT = 0.1


class WorkAround(Protocol):
    """The work of the call that the code belongs to, as far as its threads need it."""

    def thread_runs_tasks(self, thread: int) -> bool:
        """Return whether tasks of the call are being cancelled on an event loop of this thread."""

    def native_ids(self) -> set[int]:
        """Return the system's numbers of the threads of the call."""

    def connections_closed(self, inodes: list[int]) -> None:
        """Count connections that were shut down, each once."""

    def pool_workers(self) -> set[int]:
        """Return the numbers of processes that a pool of the call ends: one of them may hold a lock of the pool."""


class ThreadExecution:
    """One execution of user code in one thread.

    One thread calls `run`, and is the only one that enters and leaves shields; the canceller's thread and the timer
    thread interrupt it. The fields have no lock of their own: each is a single assignment by one thread, and a reader
    that sees the old value interrupts once more or once less, which the next attempt makes up for. Only sending the
    exception needs a lock; the guard has it.
    """

    __slots__ = (
        "_budget",
        "_earlier_children",
        "_guard",
        "_thread_id",
        "_work",
        "ended",
        "exception_delivered",
        "exception_lost",
        "in_cleanup",
        "in_token_wait",
        "interrupt_mode",
        "native_id",
        "shield_deadline",
        "shielded",
        "sockets",
        "token",
    )  # fmt: skip

    def __init__(
        self, token: CancelToken, interrupt: InterruptMode, work: WorkAround, *, in_cleanup: bool = False
    ) -> None:
        self._guard = AsyncExceptionGuard()
        self._work = work
        self._earlier_children: list[int] = []  #: children of the thread that earlier code has left; never killed
        self._thread_id: int | None = None
        self.native_id = 0
        self.token = token
        self.interrupt_mode: InterruptMode = interrupt
        self.sockets: list[ref[Any]] = []  #: created by this code
        self.in_cleanup = in_cleanup  #: it was started after the cancel
        self.in_token_wait = False  #: it waits on its token, or its token has raised `RunCancelled`
        self.exception_delivered = False  #: the injected exception was raised in it
        self.exception_lost = False  #: it was raised where Python ignores it: in a finalizer
        self._budget = 0.0  #: seconds that the current shield may last after a cancel
        self.shielded = 0  #: how many shields it is in
        self.shield_deadline = 0.0  #: seconds of `time.monotonic`
        self.ended = False

    def run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call the function and return its result. Once, in the thread.

        Raises:
            RunCancelled: the call was cancelled, possibly before this code could start.
        """
        self._thread_id, self.native_id = threading.get_ident(), threading.get_native_id()
        self._earlier_children = child_pids(self.native_id)
        outer = current_call.call
        current_call.call = self  # before the user's code: an injected exception reads it
        try:
            if not self.in_cleanup:
                self.token.check()  # a cancel was decided, and the canceller may not have reached this code yet
            return self._guard.call(lambda: function(*args, **kwargs))
        finally:
            # From here on no exception can land in this thread: the guard was left.
            current_call.call = outer
            if self.token.cancelled and self.interrupt_mode == "auto":
                kill_children(self.native_id, {*self._earlier_children, *self._work.pool_workers()})
            self.ended = True  # after the children are gone: the call may be taken for ended from here on
            self._thread_id = None

    def enter_shield(self, budget: float | None) -> None:
        """Hold interruptions back, after a cancel for at most `budget` seconds. In the thread.

        Shields nest: the longest budget holds. A budget that is asked for after the cancel doesn't count.
        """
        self.shielded += 1
        if budget is not None and not self.token.cancelled:
            self._budget = max(self._budget, budget)

    def leave_shield(self) -> None:
        """Stop holding interruptions back, if this was the outermost shield. In the thread.

        The code checks its token next. After a cancel some time is left for unwinding: the timer thread may poll in
        between, and the grace may be over. The deadline only ever becomes earlier, so shield after shield doesn't
        postpone the end.
        """
        self.shielded -= 1
        if not self.shielded:
            self._budget = 0.0
            self.shield_deadline = min(self.shield_deadline, time.monotonic() + UNWIND_TIMEOUT)

    def prevent_start(self) -> None:
        """Make code that hasn't started raise `RunCancelled` instead; do nothing to code that runs."""
        if not self.native_id:
            self._guard.interrupt()

    def interrupt(self, grace: float, *, force: bool = False) -> None:
        """Interrupt the code, and repeat that until it has ended. From any thread; returns at once.

        A second call (a forced cancel after an ordinary one) starts a second series of attempts beside the first;
        both end with the code.

        Parameters:
            grace: seconds in which cleanup isn't interrupted a second time.
            force: ignore shields.
        """
        # Before the mode is looked at: the deadline of a shield holds for code that is stopped by its token, too.
        if self.shielded and not self.shield_deadline:
            self.shield_deadline = time.monotonic() + self._budget
        if self.interrupt_mode == "auto" and not self.ended:
            self._attempt(FIRST, time.monotonic() + (0.0 if force else 0.75 * grace), force, sent=False)

    def _attempt(self, delay: float, repeat_at: float, force: bool, sent: bool) -> None:
        """Make one attempt and schedule the next one. First in the canceller's thread, then in the timer thread.

        Parameters:
            delay: seconds until the next attempt; doubled each time.
            repeat_at: from this time on (`time.monotonic`) code that knows of its cancel is interrupted again.
            sent: whether the exception was sent by an earlier attempt.
        """
        if self.ended:
            return
        if force or not self.shielded:
            late = time.monotonic() >= repeat_at
            if late or not self._work.thread_runs_tasks(self._thread_id or 0):
                sent = self._interrupt(late, sent)
        now = time.monotonic()
        next_at = min(now + delay, repeat_at) if now < repeat_at else now + delay
        next_delay = min(2 * delay, SLOWEST)
        timers.call_at(next_at, lambda: self._attempt(next_delay, repeat_at, force, sent))

    def _interrupt(self, late: bool, sent: bool) -> bool:
        """Send the exception, unless that is pending or not needed, and take away what the thread is blocked on."""
        if late or self.exception_lost or not (sent or self.in_token_wait):
            self.exception_lost = False
            sent = self._guard.interrupt()

        def skip_if() -> bool:
            # Evaluated after the system was asked what the thread is blocked in, and before that is taken away. If the
            # code has ended, the thread may run other code, and what was found may be that code's.
            return self.ended or (not late and (self.in_token_wait or self.exception_delivered))

        # If the exception can't be sent, the thread may be starting a process, and wait for it.
        pids = self._descendants(late) if sent or late else []
        if pids and not skip_if():
            kill(pids)
        self._work.connections_closed(shut_down_sockets(self.native_id, self.sockets, skip_if, self._work.native_ids()))
        if sent and not skip_if():
            wake_condition(self._thread_id or 0)
        return sent

    def _descendants(self, late: bool) -> list[int]:
        return descendant_pids(self.native_id, {*self._earlier_children, *(() if late else self._work.pool_workers())})

    def waits_for(self) -> str | None:
        """Return the system call in which the thread waits, for people; None if that is unknown. From any thread."""
        return describe_wait(self.native_id) if self.native_id and not self.ended else None

    def stack(self) -> str:
        """Return the stack of the code as text; "" if it isn't running. From any thread."""
        thread = self._thread_id
        return user_frames(thread) if thread is not None else ""


#: Files whose frames lie between the start of a worker thread and user code.
_INTERNAL_PATHS = (
    os.path.dirname(os.path.dirname(__file__)) + os.sep,
    threading.__file__,
    os.path.dirname(asyncio.__file__),
    os.path.dirname(concurrent.futures.__file__),
)


def user_frames(thread: int) -> str:
    """Return the frames of a thread as text, from the first frame of user code on; "" if there is none."""
    rows = [(code.co_filename, line, code.co_name, None) for code, line in reversed(sample_stack(thread))]
    first = next((k for k, row in enumerate(rows) if not row[0].startswith(_INTERNAL_PATHS)), len(rows))
    return "".join(traceback.StackSummary.from_list(rows[first:]).format())
