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
from desist.cancel.signals import cancellation_source, main_handles_interrupt
from desist.cancel.token import current_token
from desist.exceptions import DesistError
from desist.runtime.latch import Latch
from desist.runtime.timer_thread import timers
from desist.streams.channel import ChannelClosed, EventChannel

__all__ = ["AsyncReader", "ReadableRun", "SyncReader", "wait_settled", "wait_settled_async"]

T = TypeVar("T")

#: Seconds between the garbage collection of a reader in the main thread and the cancel of its run. An uncaught Ctrl-C
#: drops the reader too, and the interpreter sets `sys.last_value` only a moment later.
GC_CANCEL_DELAY = 0.01


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

    def stop() -> None:
        now = getattr(sys, "last_value", None)
        by_user = (now is not last and isinstance(now, KeyboardInterrupt)) or main_handles_interrupt()
        run.stop(Source.interrupt if by_user else Source.consumer_closed, "the reader was dropped")

    if threading.current_thread() is threading.main_thread():
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
        except KeyboardInterrupt:
            self._interrupted()
            raise

    def close(self) -> None:
        """Stop reading. The run is cancelled unless it has ended; returns when it has settled.

        A second call does nothing.
        """
        self._detach_finalizer()
        if not self._is_inherited() and not self._run.settled.is_set:
            self._run.stop(Source.consumer_closed, "the reader was closed")
            wait_settled(self._run)

    def _interrupted(self) -> None:
        self._detach_finalizer()
        if self._is_inherited():
            return
        self._run.stop(Source.interrupt, "Ctrl-C")
        wait_settled(self._run)

    def __enter__(self) -> SyncReader[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._interrupted()
        else:
            self.close()


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
        except asyncio.CancelledError:
            await self._leave("the task that read the events was cancelled")
            raise

    async def aclose(self) -> None:
        """Stop reading. The run is cancelled unless it has ended; returns when it has settled.

        A second call does nothing.
        """
        await self._leave("the reader was closed")

    async def _leave(self, text: str) -> None:
        self._detach_finalizer()
        if not self._is_inherited() and not self._run.settled.is_set:
            self._run.stop(cancellation_source(), text)
            await wait_settled_async(self._run)

    async def __aenter__(self) -> AsyncReader[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def wait_settled(run: ReadableRun[T]) -> None:
    """Wait in this thread until a cancelled run has settled, at most for its grace. Ctrl-C forces the cancel."""
    try:
        run.settled.wait()
    except KeyboardInterrupt:
        run.stop(Source.interrupt, "Ctrl-C twice")
        raise


async def wait_settled_async(run: ReadableRun[T]) -> None:
    """Wait on this loop until a cancelled run has settled, even if the waiting task is cancelled meanwhile.

    Raises:
        CancelledError: the task was cancelled while it waited; after the run has settled.
    """
    waiter = asyncio.ensure_future(run.settled.wait_async())
    cancelled = False
    while not waiter.done():
        try:
            await asyncio.shield(waiter)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
