"""`EventBuffer`: the events of a run that are not stored yet, for a store that other processes read.

A run has a buffer if it has a channel of its own and its store is shared. An event is numbered and appended with the
lock of the tree held, in the task that a cancel interrupts, so appending does nothing else. The store's writer takes
the events some milliseconds later.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["EventBuffer"]

log = logging.getLogger("desist.run")

#: How many events of a run may wait for a database that does not accept them.
LIMIT = 100_000


class EventBuffer:
    """The events of one stream that are not stored yet.

    Parameters:
        run_id: the run of the stream.
        wake: called when there are events to take, once until they are taken. Must not block.
    """

    __slots__ = ("_dropped", "_ended", "_last", "_pending", "_wake", "_woken", "run_id", "written")

    def __init__(self, run_id: str, wake: Callable[[EventBuffer], None]) -> None:
        self.run_id, self._wake = run_id, wake
        self._pending: deque[tuple[int, Any]] = deque()
        self._last: list[tuple[int, Any]] = []  #: the terminal event and those before it that belong to the end
        self._woken = self._ended = False
        self._dropped = 0
        self.written: Any = None  #: for the store: the encoded last events, so that they are encoded once

    # -- called by the run, with the lock of the tree held

    def number(self, event: Any, index: int) -> None:
        """Set the number and time of an event, and append the event. After `end`, no event is appended."""
        event.event_index, event.event_at = index, time.time()
        if self._ended:
            return
        if len(self._pending) >= LIMIT:
            self._drop()
            return
        self._pending.append((index, event))
        if not self._woken:
            self._woken = True
            self._wake(self)

    def _drop(self) -> None:
        self._dropped += 1
        if self._dropped & (self._dropped - 1) == 0:  # the 1st, 2nd, 4th, ...
            message = "run %s: the database is too slow: %d events are not stored, and followers will miss them"
            log.error(message, self.run_id, self._dropped, extra={"run_id": self.run_id})

    def end(self, last: Iterable[Any], first: int) -> None:
        """Append the last events, ending with the terminal one. Only the end of the run stores them: `take_all`.

        They are kept apart from the other events, because a concurrent flush must not take them: it would store a
        terminal event of a run whose record has no end, and the process may die before the end is stored.
        """
        for index, event in enumerate(last, first):
            event.event_at = time.time()
            self._last.append((index, event))
        self._ended = True

    # -- called by the store

    def take(self) -> list[tuple[int, Any]]:
        """Remove and return the gathered events with their numbers. The last events are never among them."""
        self._woken = False  # first, so that events from now on wake the writer again
        return [self._pending.popleft() for _ in range(len(self._pending))]

    def take_all(self) -> list[tuple[int, Any]]:
        """Return the gathered events and the last ones. Only for the transaction that stores the end of the run."""
        return [*self.take(), *self._last]
