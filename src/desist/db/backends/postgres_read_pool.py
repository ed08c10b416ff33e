"""`ReadPool`: a few connections for reading, shared by all threads. It has no thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from desist.exceptions import StoreError

if TYPE_CHECKING:
    import psycopg

__all__ = ["ReadPool"]

#: The maximum of connections, and seconds after which an idle one is closed.
LIMIT, IDLE = 8, 60.0


class ReadPool:
    """The connections for reading of one backend.

    Parameters:
        connect: returns a new connection.
        name: of the database, for messages.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], name: str) -> None:
        self._connect, self._name = connect, name
        self._changed = threading.Condition(threading.Lock())
        self._idle: list[tuple[float, psycopg.Connection[Any]]] = []  #: the one that was used last is at the end
        self._lent = 0
        self._closed = False
        self._is_wanted = False  #: whether the writer has no connection, and takes the next idle one

    def borrow(self, timeout: float) -> psycopg.Connection[Any]:
        """Return a connection; wait at most `timeout` seconds while all are in use.

        Raises:
            StoreError: all are in use, or the pool is closed.
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
        """Take a connection back. One that is in a transaction was interrupted, and is closed."""
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
        """Give an idle connection to a writer that can't get one; if all are in use, keep the next one for it."""
        with self._changed:
            self._is_wanted = not self._idle and self._lent > 0
            return self._idle.pop()[1] if self._idle else None

    @property
    def has_idle(self) -> bool:
        """Whether `borrow` need not connect."""
        return bool(self._idle) and not self._is_wanted

    def _returned(self) -> None:
        with self._changed:
            self._lent -= 1
            self._changed.notify()

    def drop_idle(self) -> None:
        """Close the idle connections: the server was away, and they are broken."""
        with self._changed:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def close(self) -> None:
        """Close the idle connections, and the others when they come back."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.drop_idle()

    def detach_after_fork(self) -> list[Any]:
        """Return the parent's connections, which a forked child must never close, and forget them."""
        idle, self._idle = self._idle, []
        self._changed, self._lent = threading.Condition(threading.Lock()), 0
        return idle
