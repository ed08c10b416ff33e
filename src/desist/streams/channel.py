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
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

__all__ = ["UNREAD", "Backlog", "ChannelClosed", "DiscardingChannel", "EventChannel"]

T = TypeVar("T")

#: How many events may wait for a reader, before those that can be spared are dropped; of all kinds, twice as many.
UNREAD = 100_000


class ChannelClosed(Exception):
    """The stream is over: everything was read, and the last thing was the terminal event."""


@dataclass(frozen=True, slots=True)
class Backlog(Generic[T]):
    """What becomes of the events that a reader doesn't read. The run never waits for the reader.

    With `resume`, the reader goes on in the store after those that are kept, and misses nothing. Without, events that
    can be spared are dropped, and the next event says how many.
    """

    can_spare: Callable[[T], bool]  #: whether the last event tells again what an event says
    mark: Callable[[T, int], None]  #: tells an event how many were dropped before it
    #: makes what follows the run in the store, after the event of this number; its `bridge` is read
    resume: Callable[[int], Any] | None = None
    limit: int = UNREAD


class EventChannel(Generic[T]):
    """One stream of events from many producers to one reader.

    Parameters:
        lock: the lock of the run's tree.
        number: tells an event its place in the stream, from 0 on.
        backlog: bounds what isn't read; None: there is no bound.
    """

    __slots__ = (
        "_backlog",
        "_closed",
        "_held",
        "_items",
        "_lock",
        "_missed",
        "_number",
        "_resumed",
        "_stopped_after",
        "_waiting",
        "_waker",
        "_wakeup",
        "count",
    )

    def __init__(
        self,
        lock: threading.Lock,
        number: Callable[[T, int], None] | None = None,
        backlog: Backlog[T] | None = None,
    ) -> None:
        self._backlog = backlog
        self._missed = 0  #: dropped since the last event that was kept
        self._stopped_after: int | None = None  #: the number of the last event kept, if the reader goes on in the store
        self._resumed: Any = None
        self._lock = lock
        self._number = number
        self._items: deque[T] = deque()
        self._held: list[T] = []
        self._closed = False
        self._waiting = False
        self._wakeup = threading.Lock()
        self._wakeup.acquire()
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
        backlog = self._backlog
        if backlog is not None:
            behind = self._stopped_after is not None or len(self._items) >= backlog.limit
            if behind and not self._has_room(backlog, item):
                return
            if self._missed:
                backlog.mark(item, self._missed)
                self._missed = 0
        self._items.append(item)
        if self._waiting:
            self._wake_reader()

    def _has_room(self, backlog: Backlog[T], item: T) -> bool:
        """Whether an event is kept although the reader is far behind. What is dropped is counted."""
        if backlog.resume is not None:
            if self._stopped_after is None:
                self._stopped_after = self.count - 2  # the event itself is counted already
            if self._waiting:
                self._wake_reader()
            return False
        kept = not backlog.can_spare(item) and len(self._items) < 2 * backlog.limit
        self._missed += not kept
        return kept

    def put_deferred(self, item: T) -> None:
        """Keep an event back until `close`: nobody hears "cancelled" before the whole tree is stored."""
        if self._closed:
            raise RuntimeError("an event was held after the terminal event")
        self._held.append(item)

    def discard(self, predicate: Callable[[T], bool]) -> None:
        """Forget what the reader hasn't taken yet and `predicate` picks."""
        kept = [item for item in self._items if not predicate(item)]
        self._items.clear()
        self._items.extend(kept)

    def terminal_items(self, last: Iterable[T]) -> list[T]:
        """Return what `close(last)` will add, in its order."""
        return [*self._held, *last]

    def close(self, last: Iterable[T] = ()) -> None:
        """Let go what was held, add the last events, the terminal one at their end, and end the stream."""
        ends = self.terminal_items(last)
        if self._stopped_after is None:
            self._backlog, backlog = None, self._backlog  # the end is always told
            if self._missed and backlog is not None and ends:
                backlog.mark(ends[0], self._missed)
                self._missed = 0
        for item in ends:
            self.put(item)
        self._held.clear()
        self._closed = True
        if self._waiting:
            self._wake_reader()

    def _wake_reader(self) -> None:
        self._waiting = False
        if self._waker is not None:
            self._waker()
        elif self._wakeup.locked():  # a Ctrl-C can have left it open
            self._wakeup.release()

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
                resumes = self._stopped_after is not None
                if self._closed and not resumes:
                    raise ChannelClosed
                self._waiting = not resumes
            if resumes:
                return self._rest().get()
            self._wakeup.acquire()

    def _rest(self) -> EventChannel[T]:
        """Return what has the events that weren't kept here. In the reader's thread, of which there is one."""
        if self._resumed is None:
            assert self._backlog is not None and self._backlog.resume is not None and self._stopped_after is not None
            self._resumed = self._backlog.resume(self._stopped_after)
        rest: EventChannel[T] = self._resumed.bridge
        return rest

    async def aget(self) -> T:
        """Return the next event, waiting for it on this loop.

        Raises:
            Closed: the stream is over.
        """
        while True:
            with self._lock:
                if self._items:
                    return self._items.popleft()
                resumes = self._stopped_after is not None
                if self._closed and not resumes:
                    raise ChannelClosed
                future = None if resumes else self._await_wakeup()
            if future is None:
                return await self._rest().aget()
            await future

    def _await_wakeup(self) -> asyncio.Future[None]:
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


class DiscardingChannel(EventChannel[T]):
    """A stream that nobody reads: its events are numbered, which is how they are recorded, and forgotten."""

    __slots__ = ()

    def _add(self, item: T) -> None:
        pass
