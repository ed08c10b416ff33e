"""`EventBuffer`: the events of a run on their way into a store that other processes read.

Made by a run that has a stream of its own, and whose store is shared. Numbering an event
appends it here, with the lock of the tree held, in the task that a cancel interrupts; so it does nothing else. The
store's writer takes the gathered events some milliseconds later. This module does not know the classes of events.
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
        wake: called when there is something to take, once until it was taken. Must not block.
    """

    __slots__ = ("_asked", "_dropped", "_ended", "_last", "_pending", "_wake", "run_id", "written")

    def __init__(self, run_id: str, wake: Callable[[EventBuffer], None]) -> None:
        self.run_id, self._wake = run_id, wake
        self._pending: deque[tuple[int, Any]] = deque()
        self._last: list[tuple[int, Any]] = []  #: the terminal event and those before it that belong to the end
        self._asked = self._ended = False
        self._dropped = 0
        self.written: Any = None  #: for the store: the encoded last events, so that they are encoded once

    # -- the run's side, with the lock of the tree held

    def number(self, event: Any, index: int) -> None:
        """Set the number and time of an event, and append it. Once the last events are here, none is appended."""
        event.event_index, event.event_at = index, time.time()
        if self._ended:
            return
        if len(self._pending) >= LIMIT:
            self._drop()
            return
        self._pending.append((index, event))
        if not self._asked:
            self._asked = True
            self._wake(self)

    def _drop(self) -> None:
        self._dropped += 1
        if self._dropped & (self._dropped - 1) == 0:  # the 1st, 2nd, 4th, ...
            words = "run %s tells more than its database takes: %d events aren't stored, and are missing to others"
            log.error(words, self.run_id, self._dropped, extra={"run_id": self.run_id})

    def end(self, last: Iterable[Any], first: int) -> None:
        """Append the last events, ending with the terminal one. Only the end of the run stores them: `take_all`.

        They are kept apart from the other events, because a concurrent flush must not take them: it would store a
        terminal event of a run whose record has no end, and the process may die before the end is stored.
        """
        for index, event in enumerate(last, first):
            event.event_at = time.time()
            self._last.append((index, event))
        self._ended = True

    # -- the store's side

    def take(self) -> list[tuple[int, Any]]:
        """Remove and return the gathered events with their numbers. The last events are never among them."""
        self._asked = False  # first, so that events from now on wake the writer again
        return [self._pending.popleft() for _ in range(len(self._pending))]

    def take_all(self) -> list[tuple[int, Any]]:
        """Return the gathered events and the last ones. Only for the transaction that stores the end of the run."""
        return [*self.take(), *self._last]
