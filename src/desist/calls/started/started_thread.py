"""A thread that a call has started, or a job that a call has submitted to an executor."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any, TypeVar

from desist.calls.abandoned_threads import add_abandoned_thread, remove_abandoned_thread
from desist.calls.thread_execution import ThreadExecution
from desist.cancel.receipt import Abandoned
from desist.exceptions import RunCancelled

if TYPE_CHECKING:
    from desist.calls.started.started_work import StartedWork

__all__ = ["StartedThread"]

T = TypeVar("T")


class StartedThread:
    """Owned code in a thread other than the call's own: the whole of a new thread, or one job of a pool's thread.

    Created by the thread that starts it; `run` is called once, in the other thread, or never.
    """

    kind = "thread"

    def __init__(self, name: str, work: StartedWork) -> None:
        self.name = name
        self.started_at = time.time()
        self.future: Future[Any] | None = None  #: of a job
        self.thread: threading.Thread | None = None  #: the thread, once that is known
        self._work = work
        self._context = contextvars.copy_context()
        self.execution = ThreadExecution(work.token, work.interrupt_mode, work)
        self.ended = False

    def run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call the function. In the thread, which sees the call as the one that it works for.

        Raises:
            RunCancelled: the call was cancelled, possibly before this code could start.
        """
        self.thread = threading.current_thread()
        try:
            with self._work.entered(self._context):
                return self.execution.run(function, *args, **kwargs)
        finally:
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
        self.ended = True
        remove_abandoned_thread(self)
        self._work.member_ended(self)

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
        waits_for = self.execution.waits_for()
        return [
            Abandoned(name=self.name, kind=self.kind, blocked_in=self.stack() or None, waits_for=waits_for, call=call)
        ]
