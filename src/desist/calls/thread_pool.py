"""Worker threads for blocking user code: sync tools and function steps run here, never on an event loop.

The threads are daemon threads, so that none delays the interpreter's exit. A task that awaits a call is released at
once on cancel; how the call itself is interrupted is in `desist.calls.thread_call`.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from desist.calls.abandoned_threads import abandoned_threads
from desist.calls.base import Call, InterruptMode, current_call_owner
from desist.calls.thread_call import ThreadCall
from desist.cancel.reason import CancelReason, Source
from desist.cancel.token import current_token, use_token
from desist.exceptions import TooManyAbandonedError
from desist.runtime.fork_hooks import register_at_fork

__all__ = ["MAX_ABANDONED", "TIMEOUT_GRACE", "run_call", "run_in_thread", "stop_call"]
__all__ += ["cancel_alone"]

T = TypeVar("T")


class AwaitableCall(Call, Protocol):
    """A call that can be awaited again after the task that awaited it was cancelled."""

    async def wait_done(self, seconds: float) -> None:
        """Wait until the call has ended, at most `seconds`."""


C = TypeVar("C", bound=AwaitableCall)

#: How many abandoned threads may live before no new blocking call is started.
MAX_ABANDONED = 64
#: Seconds after which an idle thread ends.
IDLE = 10.0
#: Seconds of grace for a call that is no longer awaited while its run goes on.
TIMEOUT_GRACE = 0.05


class ThreadPool:
    """Daemon threads that are reused. There is no limit: a call never waits for a thread.

    Each thread has an inbox. An inbox is in `_idle` exactly while its thread has nothing to do, and is taken out of it
    under the lock by one of two: a caller, which then puts one call into it, or its own thread, which then ends.
    """

    def __init__(self) -> None:
        self._idle: list[queue.SimpleQueue[ThreadCall]] = []
        self._lock = threading.Lock()

    def submit(self, work: ThreadCall) -> None:
        """Run a call in an idle thread or a new one. From any thread; returns at once."""
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
                continue  # a caller has taken the inbox and is about to put a call into it
            work.run()
            with self._lock:
                # Before the owner is notified: its next call reuses this thread. A call that comes in between waits
                # in the inbox until the owner was notified.
                self._idle.append(inbox)
            work.notify_owner()
            del work  # an idle thread must not keep the call, its arguments and its result alive

    def reset_after_fork(self) -> None:
        """Forget the parent's threads, which don't exist in the child."""
        self.__init__()  # type: ignore[misc]


_threads = ThreadPool()


def _reset_after_fork() -> None:
    _threads.reset_after_fork()


register_at_fork(after_in_child=_reset_after_fork)


async def run_in_thread(call: Callable[[], T], *, name: str, interrupt: InterruptMode = "auto") -> T:
    """Run blocking code in a worker thread and wait for it on this loop.

    Parameters:
        call: the function to run; it sees the context variables of this task.
        name: the name of the call in receipts and logs.
        interrupt: how a cancel may interrupt the call.

    Raises:
        RunCancelled: the run was cancelled before the call could start.
        TooManyAbandonedError: too many threads still run abandoned calls.
    """
    abandoned = abandoned_threads()
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


async def run_call(work: C, submit: Callable[[C], None]) -> Any:
    """Register a call with its run, submit it and await its result. On the loop's thread.

    A task that is cancelled while it awaits is released at once if the run was cancelled: then the run interrupts the
    call. Otherwise (a timeout of this call alone, or a branch that was stopped) the call is interrupted here, and the
    task is released after `TIMEOUT_GRACE` at the latest.

    Raises:
        RunCancelled: the run was cancelled before the call could start.
    """
    # Registered before it starts: a cancel that is decided from here on finds the call.
    if work.owner is not None:
        work.owner.call_started(work)
    submit(work)
    try:
        return await work.result()
    except asyncio.CancelledError:
        if cancel_alone(work):
            await stop_call(work)
        raise


def cancel_alone(work: Call) -> bool:
    """Cancel a call that is no longer awaited; return False if its run is cancelled, and stops it.

    The token of the call is a child of the run's token.
    """
    return work.token.cancel(CancelReason(source=Source.deadline, text="the call is no longer awaited"))


async def stop_call(work: AwaitableCall) -> None:
    """Stop a call whose token was cancelled, and wait for its end a short while. On the loop's thread."""
    try:
        work.interrupt(TIMEOUT_GRACE)
        if not work.ended:
            await work.wait_done(TIMEOUT_GRACE)
    finally:
        if not work.ended:  # also if this task was cancelled a second time while it waited
            work.abandon()
