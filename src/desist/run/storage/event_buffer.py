"""What a run tells, on its way into a store that other processes read.

Made by a run that has a stream of its own, and whose store is shared. Numbering an event is putting it here: that is
done with the lock of the tree held, in the task that a cancel interrupts, so it only appends. The store's writer takes
what has gathered, some milliseconds later. It must not know what an event is.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["EventBuffer"]

log = logging.getLogger("desist.run")

#: How many events of a run may wait for a database that doesn't take them.
LIMIT = 100_000


class EventBuffer:
    """The events of one stream that aren't stored yet.

    Parameters:
        run_id: whose stream it is.
        wake: told once when there is something to take, and again after it was taken. Must not block.
    """

    __slots__ = ("_asked", "_dropped", "_ended", "_last", "_pending", "_wake", "run_id", "written")

    def __init__(self, run_id: str, wake: Callable[[EventBuffer], None]) -> None:
        self.run_id, self._wake = run_id, wake
        self._pending: deque[tuple[int, Any]] = deque()
        self._last: list[tuple[int, Any]] = []  #: the terminal event and those before it that belong to the end
        self._asked = self._ended = False
        self._dropped = 0
        self.written: Any = None  #: for the store: what it made of the last events, so that it is made once

    # -- the run's side, with the lock of the tree held

    def number(self, event: Any, index: int) -> None:
        """Tell an event its place in the stream, and when that was, and take it. After the end it was taken before."""
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
        """Take the last events, the terminal one at their end. Only the end of the run stores them: `take_all`.

        They are kept apart from what waits to be stored: a flush that is on its way must not take them. It would store
        a terminal event of a run whose record has no end, and the process may die before that is written.
        """
        for index, event in enumerate(last, first):
            event.event_at = time.time()
            self._last.append((index, event))
        self._ended = True

    # -- the store's side

    def take(self) -> list[tuple[int, Any]]:
        """Return what has gathered, with its places, and forget it here. The last events are never among it."""
        self._asked = False  # first: what comes from now on asks anew
        return [self._pending.popleft() for _ in range(len(self._pending))]

    def take_all(self) -> list[tuple[int, Any]]:
        """Return what has gathered and the last events. For the transaction that stores the end of the run, only."""
        return [*self.take(), *self._last]
