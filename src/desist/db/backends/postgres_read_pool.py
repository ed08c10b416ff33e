"""The connections for looks: a few, lent from thread to thread. No thread of its own, and nothing to keep in a fork."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from desist.exceptions import StoreError

if TYPE_CHECKING:
    import psycopg

__all__ = ["ReadPool"]

#: Connections at most, and seconds after which one that nobody used is closed.
LIMIT, IDLE = 8, 60.0


class ReadPool:
    """The connections of one place that look.

    Parameters:
        connect: makes one.
        name: of the database, for messages.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], name: str) -> None:
        self._connect, self._name = connect, name
        self._changed = threading.Condition(threading.Lock())
        self._idle: list[tuple[float, psycopg.Connection[Any]]] = []  #: the last used one last
        self._lent = 0
        self._closed = False
        self._is_wanted = False  #: the writer has no connection, and takes the next one that is idle

    def borrow(self, timeout: float) -> psycopg.Connection[Any]:
        """Return a connection; wait at most `timeout` seconds while all are lent.

        Raises:
            StoreError: all are, or the place is closed.
            psycopg.Error: a new one can't be made.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._closed or self._lent < LIMIT, timeout):
                raise StoreError(f"{self._name}: all {LIMIT} connections for reading are in use")
            if self._closed:
                raise StoreError(f"{self._name} is closed")
            self._lent += 1
            if self._idle and not self._is_wanted:
                return self._idle.pop()[1]
        try:
            return self._connect()
        except BaseException:
            self._returned()
            raise

    def give_back(self, connection: psycopg.Connection[Any]) -> None:
        """Take a connection back. One that isn't idle was interrupted, and is of no use to others."""
        idle = not connection.closed and connection.info.transaction_status == 0
        now = time.monotonic()
        with self._changed:
            keep = idle and not self._closed
            if keep:
                self._idle.append((now, connection))
            old = [known for at, known in self._idle if at < now - IDLE]
            self._idle = [(at, known) for at, known in self._idle if at >= now - IDLE]
        self._returned()
        for unused in [*old, *([] if keep else [connection])]:
            unused.close()

    def surrender(self) -> psycopg.Connection[Any] | None:
        """Give an idle connection up for good, to a writer that gets none; while all are lent, keep the next for it."""
        with self._changed:
            self._is_wanted = not self._idle and self._lent > 0
            return self._idle.pop()[1] if self._idle else None

    @property
    def has_idle(self) -> bool:
        """Whether `borrow` needn't connect."""
        return bool(self._idle) and not self._is_wanted

    def _returned(self) -> None:
        with self._changed:
            self._lent -= 1
            self._changed.notify()

    def drop_idle(self) -> None:
        """Close the connections that nobody uses: the server was away, they are of no use any more."""
        with self._changed:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def close(self) -> None:
        """Close them; those that are lent when they come back."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.drop_idle()

    def detach_after_fork(self) -> list[Any]:
        """Part with what a forked child must never close, because it is its parent's."""
        idle, self._idle = self._idle, []
        self._changed, self._lent = threading.Condition(threading.Lock()), 0
        return idle
