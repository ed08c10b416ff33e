"""Worker threads for blocking user code: sync tools and function steps run here, never on an event loop.

Daemon threads of our own, so that none holds the interpreter's exit. Whoever waits for a call is released at once on
cancel; what happens to the call itself is told in `desist.calls.thread_call`.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from desist.calls import thread_call as work_module
from desist.calls.base import Call, InterruptMode, current_call_owner
from desist.calls.thread_call import ThreadCall, abandoned_calls
from desist.cancel.reason import CancelReason, Source
from desist.cancel.token import current_token, use_token
from desist.exceptions import TooManyAbandonedError

__all__ = ["MAX_ABANDONED", "abandoned_calls", "run_call", "run_in_thread"]

T = TypeVar("T")


class Carried(Call, Protocol):
    """Work that can be waited for again, after whoever waited for it was cancelled."""

    async def wait_done(self, seconds: float) -> None:
        """Wait until it is out, but no longer than this."""


W = TypeVar("W", bound=Carried)

#: How many abandoned threads may live before no new blocking work is started.
MAX_ABANDONED = 64
#: Seconds after which an idle thread ends.
IDLE = 10.0
#: Seconds of grace for a call whose own timeout is over.
TIMEOUT_GRACE = 0.05


class ThreadPool:
    """Daemon threads that are kept for a while. They don't hold the interpreter's exit."""

    def __init__(self) -> None:
        self._idle: list[queue.SimpleQueue[ThreadCall]] = []
        self._lock = threading.Lock()

    def submit(self, work: ThreadCall) -> None:
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is not None:
            inbox.put(work)
            return
        inbox = queue.SimpleQueue()
        inbox.put(work)
        threading.Thread(target=self._serve, args=(inbox,), name="desist-worker", daemon=True).start()

    def _serve(self, inbox: queue.SimpleQueue[ThreadCall]) -> None:
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
            with self._lock:
                self._idle.append(inbox)  # before anybody hears of the end and submits the next
            work.notify_owner()
            del work

    def reset_after_fork(self) -> None:
        self.__init__()  # type: ignore[misc]


_threads = ThreadPool()


def _reset_after_fork() -> None:
    _threads.reset_after_fork()
    work_module._abandoned.clear()


os.register_at_fork(after_in_child=_reset_after_fork)


async def run_in_thread(call: Callable[[], T], *, name: str, interrupt: InterruptMode = "auto") -> T:
    """Run blocking code in a worker thread and wait for it on this loop.

    Parameters:
        call: what to run; it sees this task's context variables.
        name: how it is called in receipts and logs.
        interrupt: how a cancel may stop it.

    Raises:
        RunCancelled: the run was cancelled before the call could start.
        TooManyAbandonedError: too many threads still run work that was given up.
    """
    abandoned = abandoned_calls()
    if len(abandoned) >= MAX_ABANDONED:
        names = ", ".join(sorted({work.name for work in abandoned})[:5])
        raise TooManyAbandonedError(
            f"{name!r} was not started: {len(abandoned)} abandoned calls still occupy threads ({names}). "
            "Give those tools a timeout, or let them use desist.cancel.sleep() and check_cancelled()."
        )
    owner, token = current_call_owner(), current_token().child()
    with use_token(token):
        work = ThreadCall(call, name, owner, token, interrupt)
    result: T = await run_call(work, _threads.submit)
    return result


async def run_call(work: W, begin: Callable[[W], None]) -> Any:
    """Do work for the run that it belongs to, and wait for it. Whoever waits is released at once on cancel.

    Raises:
        RunCancelled: the run was cancelled before the work could start.
    """
    if work.owner is not None:
        work.owner.call_started(work)
    begin(work)
    try:
        return await work.result()
    except asyncio.CancelledError:
        if work.token.cancel(CancelReason(source=Source.deadline, text="nobody waits for it any more")):
            # Not the run's cancel, but a timeout of this call alone, or a branch that was stopped.
            try:
                work.interrupt(TIMEOUT_GRACE)
                await work.wait_done(TIMEOUT_GRACE)
            finally:
                if not work.ended:
                    work.abandon()
        raise
