"""A bridge that keeps what it carries: any number of readers can follow the run, from any event on, and leave it again.

For runs in the background, which have no reader of their own. A follower has a place in what is kept, and no copy of
it. Like `EventChannel` it must not know what an event is.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from desist.exceptions import DesistError
from desist.streams.channel import ChannelClosed, EventChannel
from desist.streams.follower import Cursor, Follower

__all__ = ["KEPT", "Cursor", "Follower", "ReplayChannel", "ReplayCursor"]

T = TypeVar("T")

#: How many events of a run are kept; the oldest go first.
KEPT = 100_000


class ReplayChannel(EventChannel[T]):
    """One stream of events from many producers to whoever follows.

    Parameters:
        lock, number: as for `EventChannel`.
        keep: how many events are kept.
    """

    __slots__ = ("_doomed", "_followers", "_kept")

    def __init__(
        self, lock: threading.Lock, number: Callable[[T, int], None] | None = None, *, keep: int = KEPT
    ) -> None:
        super().__init__(lock, number)
        self._kept: deque[T] = deque(maxlen=keep)
        self._doomed: list[Callable[[T], bool]] = []
        self._followers: list[Cursor[T]] = []

    @property
    def replay(self) -> int:
        """How many events are kept now."""
        return len(self._kept)

    def _add(self, item: T) -> None:
        self._kept.append(item)
        self._wake_all()

    def _wake_all(self) -> None:
        for follower in self._followers:
            follower.notify()

    def discard(self, predicate: Callable[[T], bool]) -> None:
        """Let nobody have what `doomed` picks who hasn't taken it yet, nor who comes later."""
        self._doomed.append(predicate)

    def close(self, last: Iterable[T] = ()) -> None:
        """End the stream, for all who follow."""
        super().close(last)
        self._wake_all()
        self._followers.clear()

    def next_from(self, index: int) -> tuple[int, T | None]:
        """Return the next event from an index on that may be told, and the index after it. With the lock held.

        Raises:
            Closed: the stream is over.
            LookupError: the event of that index isn't kept any more.
        """
        first = self.count - len(self._kept)
        if index < first:
            raise LookupError(first)
        while index < self.count:
            item = self._kept[index - first]
            index += 1
            if not any(doomed(item) for doomed in self._doomed):
                return index, item
        if self._closed:
            raise ChannelClosed
        return index, None

    def follow(self, run_id: str, after: int = -1) -> Follower[T]:
        """Return a stream of the events that come after the one of that index.

        Raises:
            LookupError: events after it aren't kept any more; the message says from which on they are.
        """
        with self._lock:
            first = self.count - len(self._kept)
            if after + 1 < first:
                raise LookupError(f"the events of run {run_id} before {first} aren't kept any more")
            cursor = ReplayCursor(self, self._lock, run_id, after + 1)
            if not self._closed:
                self._followers.append(cursor)
        return Follower(run_id, cursor, self._remove_cursor)

    def _remove_cursor(self, cursor: Cursor[T]) -> None:
        with self._lock:
            if cursor in self._followers:
                self._followers.remove(cursor)


class ReplayCursor(Cursor[T]):
    """A place in what is kept. It holds no events: one who is slow costs nothing.

    Parameters:
        source: where the events are kept.
        lock: its lock.
        run_id: for messages.
        index: of the first event that is wanted.
    """

    __slots__ = ("_index", "_run_id", "_source")

    def __init__(self, source: ReplayChannel[T], lock: threading.Lock, run_id: str, index: int) -> None:
        super().__init__(lock)
        self._source, self._run_id, self._index = source, run_id, index

    @property
    def closed(self) -> bool:
        """Whether the terminal event was put."""
        return self._source.closed

    @property
    def at_end(self) -> bool:
        """Whether everything was read, the terminal event too."""
        with self._lock:
            return self._source.closed and self._index >= self._source.count

    def _take(self) -> T | None:
        if self._ended:
            raise ChannelClosed
        try:
            self._index, item = self._source.next_from(self._index)
        except LookupError as error:
            raise DesistError(
                f"run {self._run_id} was read too slowly: its events before {error} aren't kept any more"
            ) from None
        return item

    def get(self) -> T:
        """Return the next event, waiting for it in this thread.

        Raises:
            Closed: the stream is over.
            DesistError: the reader was so slow that events are gone.
        """
        while True:
            with self._lock:
                item = self._take()
                if item is not None:
                    return item
                self._waiting = True
            self._wakeup.acquire()

    async def aget(self) -> T:
        """Do the same on this loop."""
        while True:
            with self._lock:
                item = self._take()
                if item is not None:
                    return item
                future = self._await_wakeup()
            await future
