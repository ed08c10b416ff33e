"""The channel of events from a run to its reader.

A deque under the lock of the run's tree; the reader is woken only while it waits (a put takes less than a microsecond).
Cancel and completion are decided under the same lock: an event is put before the decision or not at all. The methods
of the producers' side are called with that lock held.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from desist.runtime.lock_wait import acquire

__all__ = ["UNREAD", "Backlog", "ChannelClosed", "DiscardingChannel", "EventChannel"]

T = TypeVar("T")

#: How many events may wait for a reader before droppable ones are dropped; of all kinds, twice as many.
UNREAD = 100_000


class ChannelClosed(Exception):
    """All events were read, the terminal event last."""


@dataclass(frozen=True, slots=True)
class Backlog(Generic[T]):
    """The bound of the unread events of a reader. The run never waits for the reader.

    With `resume`, the reader continues from the store after the unread events, and misses none. Without, droppable
    events are dropped, and the next event carries their number.
    """

    can_spare: Callable[[T], bool]  #: whether an event may be dropped, as the terminal event repeats its content
    mark: Callable[[T, int], None]  #: writes into an event how many events were dropped before it
    #: returns a follower of the run in the store, after the event of this number; its `channel` is read
    resume: Callable[[int], Any] | None = None
    limit: int = UNREAD


class EventChannel(Generic[T]):
    """One stream of events from many producers to one reader.

    Parameters:
        lock: the lock of the run's tree.
        number: writes the index in the stream, from 0 on, into an event.
        backlog: the bound of the unread events, or None.
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
        self._missed = 0  #: events dropped since the last one that was put
        self._stopped_after: int | None = None  #: index of the last event here, if the reader continues from the store
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

    # -- the producers' side: any thread, with the lock held

    def put(self, item: T) -> None:
        """Add an event.

        Raises:
            RuntimeError: the channel is closed: a bug in the caller, as the lock orders puts before the end.
        """
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
        """Whether an event is added although the reader is far behind. Counts dropped events."""
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
        """Hold an event back until `close`: no reader gets "cancelled" before the end of the whole tree is stored."""
        if self._closed:
            raise RuntimeError("an event was deferred after the terminal event")
        self._held.append(item)

    def discard(self, predicate: Callable[[T], bool]) -> None:
        """Drop the unread events that `predicate` selects. Events put afterwards are not affected.

        A second call with the same predicate drops none: nothing is put after the decision that calls this. The
        numbers of dropped events are not reused.
        """
        kept = [item for item in self._items if not predicate(item)]
        self._items.clear()
        self._items.extend(kept)

    def terminal_items(self, last: Iterable[T]) -> list[T]:
        """Return the events that `close(last)` will add, in their order."""
        return [*self._held, *last]

    def close(self, last: Iterable[T] = ()) -> None:
        """Add the deferred events and then `last`, the terminal event at its end, and end the stream. Once.

        Called after the end was stored; a second call with events is an error of `put`.
        """
        ends = self.terminal_items(last)
        if self._stopped_after is None:
            self._backlog, backlog = None, self._backlog  # these events are never dropped
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
        """Wake the reader once. With the lock held, under which the reader has set `_waiting`: no wake-up is lost."""
        self._waiting = False
        if self._waker is not None:
            self._waker()
        elif self._wakeup.locked():  # an exception from outside in `get` may have left it released
            self._wakeup.release()

    # -- the reader's side: one thread or one task at a time, without the lock

    def get(self) -> T:
        """Return the next event, waiting for it in this thread.

        Raises:
            ChannelClosed: all events were read.
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
            acquire(self._wakeup)  # released under the lock by the next put; a left-over release makes one more turn

    def _rest(self) -> EventChannel[T]:
        """Return the channel of the events that are only in the store. On the reader's side, so it is made once."""
        if self._resumed is None:
            assert self._backlog is not None and self._backlog.resume is not None and self._stopped_after is not None
            self._resumed = self._backlog.resume(self._stopped_after)
        rest: EventChannel[T] = self._resumed.channel
        return rest

    async def aget(self) -> T:
        """Return the next event, waiting for it on this loop.

        Raises:
            ChannelClosed: all events were read.
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
        """Return a future that the next put resolves. With the lock held; replaces the future of an earlier wait."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        loop_thread = threading.get_ident()

        def resolve() -> None:
            if not future.done():  # the reading task may have been cancelled
                future.set_result(None)

        def wake() -> None:
            if threading.get_ident() == loop_thread:
                resolve()
                return
            try:
                loop.call_soon_threadsafe(resolve)
            except RuntimeError:  # the reader's loop is closed: no task waits
                pass

        self._waker = wake
        self._waiting = True
        return future


class DiscardingChannel(EventChannel[T]):
    """A channel without a reader: events are numbered, which records them, and dropped."""

    __slots__ = ()

    def _add(self, item: T) -> None:
        pass
