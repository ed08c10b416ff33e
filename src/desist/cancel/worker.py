"""Blocking user code: sync tools and function steps run here, in daemon threads of our own, never on a loop.

Whoever waits is released at once on cancel; the thread goes on until it notices (through its token) or ends by
itself. Its run waits for it within the grace, then declares it abandoned: named, counted, its late result dropped.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import Abandoned
from desist.cancel.token import current_token, use_token
from desist.exceptions import TooManyAbandonedError

__all__ = ["MAX_ABANDONED", "Work", "WorkOwner", "abandoned_work", "current_owner", "run_blocking", "set_owner"]

log = logging.getLogger("desist.cancel")
T = TypeVar("T")

#: How many abandoned threads may live before no new blocking work is started.
MAX_ABANDONED = 64
#: Seconds after which an idle thread ends.
IDLE = 10.0


class WorkOwner(Protocol):
    """The run that blocking work is done for."""

    def work_started(self, work: Work) -> None:
        """Take it on. Raises `RunCancelled` if no new work may start."""

    def work_ended(self, work: Work) -> None:
        """It is out of its thread."""

    def connections_closed(self, count: int) -> None:
        """The canceller shut so many connections to providers down."""


_owner: contextvars.ContextVar[WorkOwner | None] = contextvars.ContextVar("desist_owner", default=None)
_abandoned: set[Work] = set()


def current_owner() -> WorkOwner | None:
    """Return the run that this code works for, or None."""
    return _owner.get()


def set_owner(owner: WorkOwner) -> None:
    """Make `owner` the run that this context works for."""
    _owner.set(owner)


class Work:
    """One call in a worker thread."""

    __slots__ = ("_call", "_context", "_future", "_loop", "abandoned", "name", "owner", "started_at", "thread_id")

    def __init__(self, call: Callable[[], Any], name: str, owner: WorkOwner | None) -> None:
        self._call = call
        self._context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[tuple[Any, BaseException | None]] = self._loop.create_future()
        self.name = name
        self.owner = owner
        self.started_at = time.time()
        self.thread_id: int | None = None
        self.abandoned = False

    async def result(self) -> Any:
        """Wait for the call and return what it returned, or raise what it raised."""
        value, error = await self._future
        if error is not None:
            raise error
        return value

    def run(self) -> None:
        """Do the call, in a worker's thread."""
        self.thread_id = threading.get_ident()
        value, error = None, None
        try:
            value = self._context.run(self._call)
        except BaseException as caught:
            error = caught
        self.thread_id = None
        self._tell(value, error)

    def _tell(self, value: Any, error: BaseException | None) -> None:
        if self.abandoned:
            _abandoned.discard(self)
            how = "returned" if error is None else f"raised {type(error).__name__}"
            late = time.time() - self.started_at
            log.info("abandoned work %r %s after %.2f s; its result is dropped", self.name, how, late)
        else:
            try:
                self._loop.call_soon_threadsafe(self._resolve, value, error)
            except RuntimeError:  # the loop is closed: nobody waits
                pass
        if self.owner is not None:
            self.owner.work_ended(self)

    def _resolve(self, value: Any, error: BaseException | None) -> None:
        if not self._future.done():
            self._future.set_result((value, error))

    def abandon(self) -> Abandoned:
        """Give it up; return how it stands."""
        self.abandoned = True
        _abandoned.add(self)
        return Abandoned(name=self.name, kind="thread", blocked_in=self.stack() or None)

    def stack(self) -> str:
        """Return where the thread is now, as text; "" if it isn't running."""
        frame = sys._current_frames().get(self.thread_id) if self.thread_id is not None else None
        if frame is None:
            return ""
        rows = traceback.extract_stack(frame)
        ours = max((k for k, row in enumerate(rows) if row.filename == __file__), default=-1)
        return "".join(traceback.format_list(rows[ours + 1 :]))


def abandoned_work() -> list[Work]:
    """Return the work that was given up and still runs."""
    return list(_abandoned)


class _Threads:
    """Daemon threads that are kept for a while. They don't hold the interpreter's exit."""

    def __init__(self) -> None:
        self._idle: list[queue.SimpleQueue[Work]] = []
        self._lock = threading.Lock()

    def submit(self, work: Work) -> None:
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is not None:
            inbox.put(work)
            return
        inbox = queue.SimpleQueue()
        inbox.put(work)
        threading.Thread(target=self._serve, args=(inbox,), name="desist-worker", daemon=True).start()

    def _serve(self, inbox: queue.SimpleQueue[Work]) -> None:
        while True:
            try:
                work = inbox.get(timeout=IDLE)
            except queue.Empty:
                with self._lock:
                    if inbox in self._idle:
                        self._idle.remove(inbox)
                        return
                continue  # work is on its way
            work.run()
            del work
            with self._lock:
                self._idle.append(inbox)

    def forget(self) -> None:
        self.__init__()  # type: ignore[misc]


_threads = _Threads()


def _forget_in_child() -> None:
    _threads.forget()
    _abandoned.clear()


os.register_at_fork(after_in_child=_forget_in_child)


async def run_blocking(call: Callable[[], T], *, name: str) -> T:
    """Run blocking code in a worker thread and wait for it on this loop.

    Parameters:
        call: what to run; it sees this task's context variables.
        name: how it is called in receipts and logs.

    Raises:
        RunCancelled: the run was cancelled before the call could start.
        TooManyAbandonedError: too many threads still run work that was given up.
    """
    if len(_abandoned) >= MAX_ABANDONED:
        names = ", ".join(sorted({work.name for work in list(_abandoned)})[:5])
        raise TooManyAbandonedError(
            f"{name!r} was not started: {len(_abandoned)} abandoned calls still occupy threads ({names}). "
            "Give those tools a timeout, or let them use desist.cancel.sleep() and check_cancelled()."
        )
    owner = _owner.get()
    token = current_token().child()
    with use_token(token):
        work = Work(call, name, owner)
    if owner is not None:
        owner.work_started(work)
    _threads.submit(work)
    try:
        result: T = await work.result()
    except asyncio.CancelledError:
        if token.cancel(CancelReason(source=Source.deadline, text="nobody waits for it any more")):
            work.abandon()  # not the run's cancel, but a timeout of this call alone
        raise
    return result
