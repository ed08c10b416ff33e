"""Readers: iterator objects over a run's events, for threads and for event loops.

Objects and not generators, because a generator around a run is closed only when somebody thinks of it. A reader that
is left - by `break`, an exception, `close()`, garbage collection, Ctrl-C, a cancelled task - cancels its run with the
matching source and, where it can, waits until that is settled and stored.
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
from desist.runtime.timer_thread import reaper
from desist.streams.channel import ChannelClosed, EventChannel

__all__ = ["AsyncReader", "ReadableRun", "SyncReader", "wait_settled", "wait_settled_async"]

T = TypeVar("T")

#: Seconds after which a reader that the main thread has dropped is missed. An uncaught Ctrl-C drops it too, and it
#: takes the interpreter a moment to say that this is what has happened.
AFTERTHOUGHT = 0.01


class ReadableRun(Protocol[T]):
    """A run, as its reader sees it."""

    run_id: str
    bridge: EventChannel[T]
    settled: Latch

    def stop(self, source: Source, text: str | None = None) -> CancelReceipt:
        """Cancel the run."""


def _on_garbage_collected(run: ReadableRun[T], process: int) -> None:
    """A reader was garbage: any thread, any lock may be held, so the reaper does it."""
    if run.settled.is_set or os.getpid() != process:
        return
    last = getattr(sys, "last_value", None)

    def stop() -> None:
        now = getattr(sys, "last_value", None)
        by_user = (now is not last and isinstance(now, KeyboardInterrupt)) or main_handles_interrupt()
        run.stop(Source.interrupt if by_user else Source.consumer_closed, "the reader was dropped")

    if threading.current_thread() is threading.main_thread():
        reaper.call_at(time.monotonic() + AFTERTHOUGHT, stop)
    else:
        reaper.call_soon(stop)


class _Reader(Generic[T]):
    __slots__ = ("__weakref__", "_finalizer", "_process", "_run")

    def __init__(self, run: ReadableRun[T]) -> None:
        self._run, self._process = run, os.getpid()
        reaper.start()
        self._finalizer = weakref.finalize(self, _on_garbage_collected, run, self._process)
        self._finalizer.atexit = False

    @property
    def run_id(self) -> str:
        """The id of the run that is read; it can be given to `cancel_run`."""
        return self._run.run_id

    def _abandon_run(self) -> None:
        self._finalizer.detach()

    def _is_inherited(self) -> bool:
        """Whether this is a forked child: the run is the parent's, and so are the locks, which may be held there."""
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
            return self._run.bridge.get()
        except ChannelClosed:
            self._abandon_run()
            current_token().check()  # a cancelled run that reads another one doesn't go on after it
            raise StopIteration from None
        except KeyboardInterrupt:
            self._interrupted()
            raise

    def close(self) -> None:
        """Stop reading: the run is cancelled unless it has ended; returns when that is settled."""
        self._abandon_run()
        if not self._is_inherited() and not self._run.settled.is_set:
            self._run.stop(Source.consumer_closed, "the reader was closed")
            wait_settled(self._run)

    def _interrupted(self) -> None:
        self._abandon_run()
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
            return await self._run.bridge.aget()
        except ChannelClosed:
            self._abandon_run()
            current_token().check()
            raise StopAsyncIteration from None
        except asyncio.CancelledError:
            await self._leave("the task that read the events was cancelled")
            raise

    async def aclose(self) -> None:
        """Stop reading: the run is cancelled unless it has ended; returns when that is settled."""
        await self._leave("the reader was closed")

    async def _leave(self, why: str) -> None:
        self._abandon_run()
        if not self._is_inherited() and not self._run.settled.is_set:
            self._run.stop(cancellation_source(), why)
            await wait_settled_async(self._run)

    async def __aenter__(self) -> AsyncReader[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def wait_settled(run: ReadableRun[T]) -> None:
    """Wait in this thread until a cancelled run has settled. The run's grace bounds it; a second Ctrl-C forces it."""
    try:
        run.settled.wait()
    except KeyboardInterrupt:
        run.stop(Source.interrupt, "Ctrl-C twice")
        raise


async def wait_settled_async(run: ReadableRun[T]) -> None:
    """Wait on this loop until a cancelled run has settled, though the waiting task be cancelled again."""
    waiter = asyncio.ensure_future(run.settled.wait_async())
    again = False
    while not waiter.done():
        try:
            await asyncio.shield(waiter)
        except asyncio.CancelledError:
            again = True
    if again:
        raise asyncio.CancelledError
