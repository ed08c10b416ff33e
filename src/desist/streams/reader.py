"""Readers: iterators over the events of a run, for threads and for event loops.

They are objects and not generators, because a generator is closed only by explicit code. A reader that is left - by
`break`, an exception, `close()`, garbage collection, Ctrl-C, a cancelled task - cancels its run with the matching
source and, where possible, waits until the run has settled and its end is stored.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from desist.cancel.reason import Source
from desist.cancel.receipt import CancelReceipt
from desist.cancel.signals import source_of, source_of_main_thread
from desist.cancel.token import current_token
from desist.exceptions import DesistError, RunCancelled
from desist.runtime.background_loop import background_loop
from desist.runtime.latch import Latch
from desist.runtime.timer_thread import timers
from desist.streams.channel import ChannelClosed, EventChannel

__all__ = [
    "EXCEPTIONS_IN_TASKS",
    "AsyncReader",
    "ReadableRun",
    "SyncReader",
    "describe",
    "stop_and_wait",
    "stop_and_wait_async",
    "stop_soon",
]

T = TypeVar("T")

#: Seconds between the garbage collection of a reader in the main thread and the cancel of its run. An uncaught Ctrl-C
#: drops the reader too, and the interpreter sets `sys.last_value` only a moment later.
GC_CANCEL_DELAY = 0.01
#: Seconds to wait for a run whose cancel was forced by a second exception, at most.
FORCED = 1.0


class ReadableRun(Protocol[T]):
    """A run as its reader sees it."""

    run_id: str
    channel: EventChannel[T]
    settled: Latch

    def stop(self, source: Source, text: str | None = None) -> CancelReceipt:
        """Cancel the run."""


def _on_garbage_collected(run: ReadableRun[T], process: int) -> None:
    """Cancel the run of a reader that was garbage collected. A finalizer: in any thread, with any lock held.

    So it takes no lock and cancels nothing itself: the timer thread does. Called at most once, and not at all for a
    reader that was closed or read to the end.
    """
    if run.settled.is_set or os.getpid() != process:
        return
    last = getattr(sys, "last_value", None)

    in_main = threading.current_thread() is threading.main_thread()

    def stop() -> None:
        now = getattr(sys, "last_value", None)
        source = Source.interrupt if now is not last and isinstance(now, KeyboardInterrupt) else source_of_main_thread()
        if source is Source.shutdown and not in_main:
            source = Source.consumer_closed
        run.stop(source, "the reader was dropped")

    if in_main:
        timers.call_at(time.monotonic() + GC_CANCEL_DELAY, stop)
    else:
        timers.call_soon(stop)


class _Reader(Generic[T]):
    __slots__ = ("__weakref__", "_finalizer", "_process", "_run")

    def __init__(self, run: ReadableRun[T]) -> None:
        self._run, self._process = run, os.getpid()
        timers.start()
        self._finalizer = weakref.finalize(self, _on_garbage_collected, run, self._process)
        self._finalizer.atexit = False

    @property
    def run_id(self) -> str:
        """The id of the run, for `cancel_run` for example."""
        return self._run.run_id

    def _detach_finalizer(self) -> None:
        """Leave the run to the caller: garbage collection cancels it no more. A second call does nothing."""
        self._finalizer.detach()

    def _is_inherited(self) -> bool:
        """Whether this is a forked child: the run and its locks are the parent's, where they may be held."""
        return os.getpid() != self._process

    def _refuse_inherited(self) -> None:
        if self._is_inherited():
            raise DesistError(
                f"the reader of run {self.run_id} belongs to process {self._process}, which forked this one: read"
                " there, or follow the run by its id if it has a database"
            )


class SyncReader(_Reader[T], Iterator[T]):
    """The events of a run, in any thread: `for event in reader`, best inside `with reader:`."""

    __slots__ = ()

    def __iter__(self) -> SyncReader[T]:
        return self

    def __next__(self) -> T:
        self._refuse_inherited()
        try:
            return self._run.channel.get()
        except ChannelClosed:
            self._detach_finalizer()
            current_token().check()  # code of a cancelled run must not go on after it has read another run
            raise StopIteration from None
        except DesistError:  # of a store that is read: the next call may succeed
            raise
        except BaseException as error:
            self._leave(source_of(error), describe(error))
            raise

    def close(self) -> None:
        """Stop reading. The run is cancelled unless it has ended; returns when it has settled.

        A second call does nothing.
        """
        self._leave(Source.consumer_closed, "the reader was closed")

    def _leave(self, source: Source, text: str) -> None:
        if not self._is_inherited():
            stop_and_wait(self._run, source, text)
        self._detach_finalizer()  # last: an exception before this drops the reader, which then cancels the run

    def __enter__(self) -> SyncReader[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._leave(source_of(error), describe(error))


class AsyncReader(_Reader[T], AsyncIterator[T]):
    """The events of a run, on an event loop: `async for event in reader`, best inside `async with reader:`."""

    __slots__ = ()

    def __aiter__(self) -> AsyncReader[T]:
        return self

    async def __anext__(self) -> T:
        self._refuse_inherited()
        try:
            return await self._run.channel.aget()
        except ChannelClosed:
            self._detach_finalizer()
            current_token().check()
            raise StopAsyncIteration from None
        except EXCEPTIONS_IN_TASKS as error:
            await self._leave(source_of(error), "the task that read the events was cancelled")
            raise
        except GeneratorExit:
            if not self._is_inherited():
                stop_soon(self._run, "the coroutine that read the events was closed")
            raise

    async def aclose(self) -> None:
        """Stop reading. The run is cancelled unless it has ended; returns when it has settled.

        A second call does nothing.
        """
        await self._leave(Source.consumer_closed, "the reader was closed")

    async def _leave(self, source: Source, text: str) -> None:
        self._detach_finalizer()
        if not self._is_inherited():
            await stop_and_wait_async(self._run, source, text)

    async def __aenter__(self) -> AsyncReader[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        source = Source.consumer_closed if error is None else source_of(error)
        await self._leave(source, "the reader was closed")


#: What the code of a task must let pass after its cleanup.
EXCEPTIONS_IN_TASKS = (asyncio.CancelledError, KeyboardInterrupt, SystemExit)


def describe(error: BaseException) -> str:
    """Return the text of the cancel of a run whose waiting thread was reached by `error`."""
    if isinstance(error, KeyboardInterrupt):
        return "Ctrl-C"
    return f"{type(error).__name__} was raised in the thread that waited for the run"


def stop_and_wait(run: ReadableRun[T], source: Source, text: str) -> None:
    """Cancel a run and wait in this thread until it has settled, at most for its grace.

    Does nothing for a run that has settled. An exception from outside that ends the wait, such as a second Ctrl-C,
    forces the cancel and is raised. In a thread that the run needs, where a garbage collection may have closed the
    reader, nothing is waited for.
    """
    if run.settled.is_set:
        return
    if timers.is_running_here() or background_loop.is_running_here():
        stop_soon(run, text)
        return
    try:
        # In the timer thread, where no signal handler runs: an exception of one can't break off the cancel.
        timers.start()
        timers.call_soon(lambda: run.stop(source, text))
        run.settled.wait()
    except RunCancelled:  # of the run that this code works for, which has its own grace
        raise
    except BaseException:
        timers.call_soon(lambda: run.stop(Source.interrupt, "Ctrl-C twice"))  # of a run that is being cancelled: forced
        run.settled.wait(FORCED)
        raise


async def stop_and_wait_async(run: ReadableRun[T], source: Source, text: str) -> None:
    """Cancel a run and wait on this loop until it has settled, even if the waiting task is cancelled meanwhile.

    Does nothing for a run that has settled.

    Raises:
        CancelledError: the task was cancelled while it waited; after the run has settled.
    """
    if run.settled.is_set:
        return
    run.stop(source, text)
    waiter = asyncio.ensure_future(run.settled.wait_async())
    cancelled = False
    while not waiter.done():
        try:
            await asyncio.shield(waiter)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


def stop_soon(run: ReadableRun[T], text: str) -> None:
    """Have the timer thread cancel a run, and return at once. Safe in a finalizer, with any lock held."""
    timers.call_soon(lambda: run.stop(Source.consumer_closed, text))
