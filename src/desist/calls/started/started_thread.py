"""A thread that a call has started, or a job that a call has submitted to an executor."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, TypeVar

from desist.calls.abandoned_threads import add_abandoned_thread, remove_abandoned_thread
from desist.calls.started.member import MemberOwner
from desist.calls.thread_execution import ThreadExecution
from desist.cancel.receipt import Abandoned
from desist.exceptions import RunCancelled
from desist.runtime.exit_detach import attach_to_exit, attach_to_pool, detach_from_exit, detach_from_pool

__all__ = ["StartedThread"]

T = TypeVar("T")


class StartedThread:
    """Owned code in a thread other than the call's own: the whole of a new thread, or one job of a pool's thread.

    Created by the thread that starts it; `run` is called once, in the other thread, or never.
    """

    __slots__ = ("_ended", "_work", "execution", "future", "name", "pool", "started_at", "thread")
    kind = "thread"

    def __init__(self, name: str, work: MemberOwner) -> None:
        self.name = name
        self.started_at = time.time()
        self.future: Future[Any] | None = None  #: of a job
        self.pool: ThreadPoolExecutor | None = None  #: of a job
        self.thread: threading.Thread | None = None  #: the thread, once that is known
        self._work = work
        work.variables()  # here: in a thread of the call
        self.execution = ThreadExecution(work.token, work.interrupt_mode, work, in_cleanup=work.token.cancelled)
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether the code has ended, or won't start."""
        return self._ended or (self.future is not None and self.future.cancelled())

    def run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call the function. In the thread, which sees the call as the one that it works for.

        Raises:
            RunCancelled: the call was cancelled, possibly before this code could start.
        """
        self.thread = threading.current_thread()
        variables = self._work.variables()
        tokens = [variable.set(value) for variable, value in variables]
        try:
            return self.execution.run(function, *args, **kwargs)
        finally:
            for (variable, _), token in zip(variables, tokens, strict=True):
                variable.reset(token)
            self.end()

    def run_thread(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call the function as the whole of a thread: what a cancel raises ends the thread without a report.

        That is an `asyncio.CancelledError` if the thread runs a loop, and the one of futures if it waits for a job.
        """
        try:
            self.run(function, *args, **kwargs)
        except (RunCancelled, asyncio.CancelledError, CancelledError):
            if not self.execution.token.cancelled:
                raise

    def end(self) -> None:
        """Note that the code has ended, or won't start. From any thread; again without effect."""
        self._ended = True
        remove_abandoned_thread(self)
        self._attach()
        self._work.member_ended(self)

    def _detach(self) -> None:
        """Have neither the exit of the interpreter nor that of an event loop wait for the thread."""
        if self.thread is not None:
            detach_from_exit(self.thread)
            if self.pool is not None:
                detach_from_pool(self.thread, self.pool)
            if self._ended:  # meanwhile
                self._attach()

    def _attach(self) -> None:
        """Undo that: a thread of a pool goes on with other jobs."""
        if self._work.abandoned and self.thread is not None:
            attach_to_exit(self.thread)
            if self.pool is not None:
                attach_to_pool(self.thread, self.pool)

    def interrupt(self, grace: float, force: bool) -> None:
        """Interrupt the code; a job that hasn't started won't start. From any thread; returns at once."""
        if self.execution.interrupt_mode == "auto" and self.future is not None and self.future.cancel():
            self.end()
            return
        self.execution.interrupt(grace, force=force)

    @property
    def shield_deadline(self) -> float:
        """Before this time the code must not be abandoned; seconds of `time.monotonic`."""
        return self.execution.shield_deadline

    def stack(self) -> str:
        """Return the stack of the code as text; "" if it isn't running."""
        return self.execution.stack()

    def abandon(self, call: str) -> list[Abandoned]:
        """Return a record of the code, which couldn't be stopped; a job that waits for a thread won't start."""
        self.execution.prevent_start()
        if self.execution.native_id:
            add_abandoned_thread(self)
            self._detach()
        waits_for = self.execution.waits_for()
        return [
            Abandoned(name=self.name, kind=self.kind, blocked_in=self.stack() or None, waits_for=waits_for, call=call)
        ]
