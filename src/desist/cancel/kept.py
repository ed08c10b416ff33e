"""A bridge that keeps what it carries: any number of readers can follow the run, from any event on, and leave it again.

For runs in the background, which have no reader of their own. Each follower has a bridge of its own under the same
lock. Like `Bridge` it must not know what an event is.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from desist.cancel.bridge import Bridge
from desist.cancel.reason import Source
from desist.cancel.receipt import CancelReceipt, Latch
from desist.cancel.scope import Outcome

__all__ = ["KEPT", "Follower", "KeptBridge"]

T = TypeVar("T")

#: How many events of a run are kept; the oldest go first.
KEPT = 100_000


class KeptBridge(Bridge[T]):
    """One stream of events from many producers to whoever follows.

    Parameters:
        lock, number: as for `Bridge`.
        keep: how many events are kept.
    """

    __slots__ = ("_doomed", "_followers", "_kept")

    def __init__(
        self, lock: threading.Lock, number: Callable[[T, int], None] | None = None, *, keep: int = KEPT
    ) -> None:
        super().__init__(lock, number)
        self._kept: deque[T] = deque(maxlen=keep)
        self._doomed: list[Callable[[T], bool]] = []
        self._followers: list[Bridge[T]] = []

    @property
    def kept(self) -> int:
        """How many events are kept now."""
        return len(self._kept)

    def _add(self, item: T) -> None:
        self._kept.append(item)
        for follower in self._followers:
            follower.put(item)

    def drop(self, doomed: Callable[[T], bool]) -> None:
        """Let nobody have what `doomed` picks who hasn't taken it yet, nor who comes later."""
        self._doomed.append(doomed)
        for follower in self._followers:
            follower.drop(doomed)

    def close(self, last: Iterable[T] = ()) -> None:
        """End the stream, for all who follow."""
        super().close(last)
        for follower in self._followers:
            follower.close()
        self._followers.clear()

    def follow(self, run_id: str, after: int = -1) -> Follower[T]:
        """Return a stream of the events that come after the one of that index.

        Raises:
            LookupError: events after it aren't kept any more; the message says from which on they are.
        """
        with self._lock:
            first = self.count - len(self._kept)
            if after + 1 < first:
                raise LookupError(f"the events of run {run_id} before {first} aren't kept any more")
            bridge: Bridge[T] = Bridge(self._lock)
            for number, item in enumerate(self._kept, first):
                if number > after and not any(doomed(item) for doomed in self._doomed):
                    bridge.put(item)
            if self._closed:
                bridge.close()
            else:
                self._followers.append(bridge)
        return Follower(run_id, bridge, self._forget)

    def _forget(self, bridge: Bridge[T]) -> None:
        with self._lock:
            if bridge in self._followers:
                self._followers.remove(bridge)


class Follower(Generic[T]):
    """A run, as one who follows it sees it: leaving doesn't stop it. What readers read.

    Attributes:
        run_id: whose events these are.
        bridge: where they come from.
        settled: set once the follower has left.
    """

    def __init__(self, run_id: str, bridge: Bridge[T], forget: Callable[[Bridge[T]], None]) -> None:
        self.run_id, self.bridge, self._forget = run_id, bridge, forget
        self.settled = Latch()

    def stop(self, source: Source, text: str | None = None) -> CancelReceipt:
        """Leave. The run goes on."""
        self._forget(self.bridge)
        self.settled.set()
        return CancelReceipt(Outcome.unknown, self.run_id, lambda: None)
