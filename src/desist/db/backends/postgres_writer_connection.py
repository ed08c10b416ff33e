"""`WriterConnection`: the connection that writes. It is made before the other connections of the process, and kept.

A server without a free connection must not cost a run its record. So the connection is made when the database is
opened; it is made again before a reader or the listener gets a connection; if the server refuses one, it is taken from
another user in this process; and reads that get no connection borrow it between two transactions.

Threads: the writer's thread calls `acquire` and `release`, readers `borrow` and `release`, the listener and readers
`ensure`. `_changed` guards the flags and is not held while a connection is made or used; `_used` is.
"""

from __future__ import annotations

import select
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from desist.db.process.postgres_target import PostgresTarget, is_full

if TYPE_CHECKING:
    import psycopg

__all__ = ["WriterConnection", "is_alive", "writers_of"]

#: The maximum of seconds that another thread waits for a connection that is being made.
CONNECTING = 10.0


class WriterConnection:
    """One connection, used by the writer's thread or by one reader at a time.

    Parameters:
        target: the database.
        spare: returns a connection that this process uses for something else, or None.
    """

    def __init__(self, target: PostgresTarget, spare: Callable[[], psycopg.Connection[Any] | None]) -> None:
        self.target, self._spare = target, spare
        self._connection: psycopg.Connection[Any] | None = None
        self._closed = False
        self.reset_after_fork()
        _all.add(self)

    def reset_after_fork(self) -> Any:
        """Forget the parent's connection, in a forked child, which must never close it; return it."""
        inherited, self._connection = self._connection, None
        self._changed = threading.Condition(threading.Lock())
        self._used = False
        #: The writer and readers take turns: a reader waits for one transaction at most, the writer for one reader.
        self._writer_waits, self._readers_wait, self._writer_was_last = False, 0, False
        return inherited

    def keep(self, connection: psycopg.Connection[Any]) -> None:
        """Use the connection with which the database was opened. Before the first use."""
        with self._changed:
            self._connection = connection

    # -- for the writer's thread

    def acquire(self) -> psycopg.Connection[Any]:
        """Return the connection, made again if the server has closed it. `release` must follow, unless this raises.

        Raises:
            psycopg.Error: the connection can't be made.
        """
        with self._changed:
            self._writer_waits = True
            self._changed.wait_for(lambda: not (self._used or (self._readers_wait and self._writer_was_last)))
            self._writer_waits, self._writer_was_last, self._used = False, True, True
        return self._connected()

    def _connected(self) -> psycopg.Connection[Any]:
        """Return a connection that is not known to be broken. With `_used` set; it is reset if this raises."""
        try:
            connection = self._connection
            if connection is None or not is_alive(connection):
                self._connection = None
                if connection is not None:
                    connection.close()
                connection = self._connection = self._connect()
            return connection
        except BaseException:
            self.release()
            raise

    def _connect(self) -> psycopg.Connection[Any]:
        import psycopg

        while True:
            try:
                return self.target.connect()
            except psycopg.Error as error:
                if not is_full(error):
                    raise
                spare = self._spare()
                if spare is None:
                    raise
            if is_alive(spare):
                return spare
            spare.close()  # the server may have room now

    def release(self) -> None:
        """Let others use the connection. One that broke, or is still in a transaction, is closed."""
        connection = self._connection
        if connection is not None and (connection.closed or connection.info.transaction_status != 0):
            self._connection = None
            connection.close()
        with self._changed:
            self._used = False
            self._changed.notify_all()
            closed = self._closed
        if closed:
            self.close()

    # -- for other threads

    def ensure(self) -> None:
        """Make sure that the writer has its connection, before this process makes another one.

        Raises:
            psycopg.Error: the server refuses the connection.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: not self._used or self._connection is not None, CONNECTING):
                return
            known = self._connection
            if self._closed or (known is not None and (self._used or is_alive(known))):
                return
            self._used = True
        self._connected()
        self.release()

    def borrow(self, timeout: float) -> psycopg.Connection[Any] | None:
        """Return the connection for reading, between two transactions; None if it is not free within `timeout`."""
        with self._changed:
            self._readers_wait += 1
            try:
                free = self._changed.wait_for(
                    lambda: not (self._used or (self._writer_waits and not self._writer_was_last)), timeout
                )
            finally:
                self._readers_wait -= 1
                self._changed.notify_all()
            if not free or self._closed or self._connection is None:
                return None
            self._used, self._writer_was_last = True, False
            return self._connection

    def owns(self, connection: object) -> bool:
        """Return whether `borrow` has returned this connection."""
        return connection is self._connection

    def close(self) -> None:
        """Close the connection, at once or when its user releases it."""
        with self._changed:
            self._closed = True
            if self._used:
                return
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def is_alive(connection: psycopg.Connection[Any]) -> bool:
    """Return whether a connection is open as far as this machine knows. Does not ask the server."""
    if connection.closed:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN | getattr(select, "POLLRDHUP", 0))
    ended = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)
    return not any(seen & ended for _, seen in poll.poll(0))


_all: weakref.WeakSet[WriterConnection] = weakref.WeakSet()


def writers_of(target: PostgresTarget) -> list[WriterConnection]:
    """Return the writers of this process on the same database, whatever their tables."""
    return [one for one in list(_all) if one.target.key == target.key and not one._closed]
