"""What carries events from a run to its reader, and can be sealed and overtaken.

A deque under the lock of the run's tree; the reader is rung only when it waits (a put costs under a microsecond).
The lock is the one under which cancel and completion are decided: what is put is put before the decision or not at
all. Methods of the producer's side are called with that lock held.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

__all__ = ["Bridge", "Closed", "UnreadBridge"]

T = TypeVar("T")


class Closed(Exception):
    """The stream is over: everything was read, and the last thing was the terminal event."""


class Bridge(Generic[T]):
    """One stream of events from many producers to one reader.

    Parameters:
        lock: the lock of the run's tree.
        number: tells an event its place in the stream, from 0 on.
    """

    __slots__ = ("_bell", "_closed", "_held", "_items", "_lock", "_number", "_waiting", "_waker", "count")

    def __init__(self, lock: threading.Lock, number: Callable[[T, int], None] | None = None) -> None:
        self._lock = lock
        self._number = number
        self._items: deque[T] = deque()
        self._held: list[T] = []
        self._closed = False
        self._waiting = False
        self._bell = threading.Lock()
        self._bell.acquire()
        self._waker: Callable[[], None] | None = None
        self.count = 0  #: events put so far

    @property
    def closed(self) -> bool:
        """Whether the terminal event was put."""
        return self._closed

    # -- the producers' side, with the lock held

    def put(self, item: T) -> None:
        """Add an event. Putting on a closed bridge is a mistake of ours, and an error."""
        if self._closed:
            raise RuntimeError("an event was put after the terminal event")
        if self._number is not None:
            self._number(item, self.count)
        self.count += 1
        self._add(item)

    def _add(self, item: T) -> None:
        self._items.append(item)
        if self._waiting:
            self._ring()

    def hold(self, item: T) -> None:
        """Keep an event back until `close`: nobody hears "cancelled" before the whole tree is stored."""
        if self._closed:
            raise RuntimeError("an event was held after the terminal event")
        self._held.append(item)

    def drop(self, doomed: Callable[[T], bool]) -> None:
        """Forget what the reader hasn't taken yet and `doomed` picks."""
        kept = [item for item in self._items if not doomed(item)]
        self._items.clear()
        self._items.extend(kept)

    def closing(self, last: Iterable[T]) -> list[T]:
        """Return what `close(last)` will add, in its order."""
        return [*self._held, *last]

    def close(self, last: Iterable[T] = ()) -> None:
        """Let go what was held, add the last events, the terminal one at their end, and end the stream."""
        for item in self.closing(last):
            self.put(item)
        self._held.clear()
        self._closed = True
        if self._waiting:
            self._ring()

    def _ring(self) -> None:
        self._waiting = False
        if self._waker is not None:
            self._waker()
        elif self._bell.locked():  # a Ctrl-C can have left it open
            self._bell.release()

    # -- the reader's side, without the lock

    def get(self) -> T:
        """Return the next event, waiting for it in this thread.

        Raises:
            Closed: the stream is over.
        """
        while True:
            with self._lock:
                if self._items:
                    return self._items.popleft()
                if self._closed:
                    raise Closed
                self._waiting = True
            self._bell.acquire()

    async def aget(self) -> T:
        """Return the next event, waiting for it on this loop.

        Raises:
            Closed: the stream is over.
        """
        while True:
            with self._lock:
                if self._items:
                    return self._items.popleft()
                if self._closed:
                    raise Closed
                future = self._await_bell()
            await future

    def _await_bell(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        home = threading.get_ident()

        def answer() -> None:
            if not future.done():
                future.set_result(None)

        def wake() -> None:
            if threading.get_ident() == home:
                answer()
                return
            try:
                loop.call_soon_threadsafe(answer)
            except RuntimeError:  # the reader's loop is closed: nobody waits any more
                pass

        self._waker = wake
        self._waiting = True
        return future


class UnreadBridge(Bridge[T]):
    """A stream that nobody reads: its events are numbered, which is how they are recorded, and forgotten."""

    __slots__ = ()

    def _add(self, item: T) -> None:
        pass
