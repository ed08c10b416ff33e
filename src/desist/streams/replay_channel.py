"""A channel whose events can be read again: any number of readers follow the run, from any event on.

For runs in the background, which have no reader of their own. A follower is a position in the stored events and no
copy of them.
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
    """One stream of events from many producers to any number of followers.

    Events are never removed by reading; `discard` hides them from everyone who hasn't read them. All fields are
    protected by the lock of the run's tree.

    Parameters:
        lock, number: as for `EventChannel`.
        keep: how many events are stored; the oldest are removed first.
    """

    __slots__ = ("_discarded", "_followers", "_kept")

    def __init__(
        self, lock: threading.Lock, number: Callable[[T, int], None] | None = None, *, keep: int = KEPT
    ) -> None:
        super().__init__(lock, number)
        self._kept: deque[T] = deque(maxlen=keep)
        self._discarded: list[Callable[[T], bool]] = []
        self._followers: list[Cursor[T]] = []

    @property
    def replay(self) -> int:
        """How many events are stored now."""
        return len(self._kept)

    def _add(self, item: T) -> None:
        self._kept.append(item)
        self._wake_all()

    def _wake_all(self) -> None:
        for follower in self._followers:
            follower.notify()

    def discard(self, predicate: Callable[[T], bool]) -> None:
        """Hide the events that `predicate` selects from followers that haven't read them, and from later followers.

        The predicate applies to later events too: with an event of a run that is being cancelled this makes no
        difference, because nothing that it selects is put after the decision. The terminal event is never selected.
        """
        self._discarded.append(predicate)

    def close(self, last: Iterable[T] = ()) -> None:
        """Add the last events and end the stream for all followers. Once, with the lock held."""
        super().close(last)
        self._wake_all()
        self._followers.clear()  # nothing is put any more, so no follower need be woken

    def next_from(self, index: int) -> tuple[int, T | None]:
        """Return the index after the next visible event from `index` on, and that event or None. With the lock held.

        Raises:
            ChannelClosed: all events were read.
            LookupError: the event of that index is no longer stored; the argument is the index of the first that is.
        """
        first = self.count - len(self._kept)
        if index < first:
            raise LookupError(first)
        while index < self.count:
            item = self._kept[index - first]
            index += 1
            if not any(discarded(item) for discarded in self._discarded):
                return index, item
        if self._closed:
            raise ChannelClosed
        return index, None

    def follow(self, run_id: str, after: int = -1) -> Follower[T]:
        """Return a follower of the events after the index `after`. From any thread.

        Raises:
            LookupError: events after it are no longer stored; the message names the first one that is.
        """
        with self._lock:
            first = self.count - len(self._kept)
            if after + 1 < first:
                raise LookupError(f"the events of run {run_id} before {first} are no longer stored")
            cursor = ReplayCursor(self, self._lock, run_id, after + 1)
            if not self._closed:
                self._followers.append(cursor)
        return Follower(run_id, cursor, self._remove_cursor)

    def _remove_cursor(self, cursor: Cursor[T]) -> None:
        """Remove a follower. From any thread, without the lock; a second call does nothing."""
        with self._lock:
            if cursor in self._followers:
                self._followers.remove(cursor)


class ReplayCursor(Cursor[T]):
    """A position in the stored events. A slow reader takes no memory.

    Parameters:
        source: the channel with the events.
        lock: the lock of that channel.
        run_id: for error messages.
        index: the index of the first event to read.
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
        """Whether all events were read, the terminal event too."""
        with self._lock:
            return self._source.closed and self._index >= self._source.count

    def _take(self) -> T | None:
        if self._ended:
            raise ChannelClosed
        try:
            self._index, item = self._source.next_from(self._index)
        except LookupError as error:
            raise DesistError(
                f"run {self._run_id} was read too slowly: its events before {error} are no longer stored"
            ) from None
        return item

    def get(self) -> T:
        """Return the next event, waiting for it in this thread.

        Raises:
            ChannelClosed: all events were read.
            DesistError: the reader was so slow that events are no longer stored.
        """
        while True:
            with self._lock:
                item = self._take()
                if item is not None:
                    return item
                self._waiting = True
            self._wakeup.acquire()

    async def aget(self) -> T:
        """Return the next event, waiting for it on this loop. Raises like `get`."""
        while True:
            with self._lock:
                item = self._take()
                if item is not None:
                    return item
                future = self._await_wakeup()
            await future
