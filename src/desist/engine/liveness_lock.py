"""A Postgres advisory lock that a worker holds while it is connected. Others see at once when the worker is gone.

Postgres releases the lock when the connection ends: with the process, or, by TCP keepalives, soon after its machine.
This does not work through a pooler; then the lease decides. Called by `MaintenanceThread`, on its thread after the
start.
"""

from __future__ import annotations

import contextlib
import logging
import time
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from desist.db.process.postgres_target import PostgresTarget
from desist.exceptions import StoreError

if TYPE_CHECKING:
    import psycopg

__all__ = ["LivenessLock"]

log = logging.getLogger("desist.engine")

#: The first key of all our advisory locks.
CLASS = 0x64657369
#: Seconds for which a lock must be free before its holder counts as dead: the holder may be reconnecting.
RECONNECT_TIMEOUT = 1.5
#: The server detects a lost machine within five seconds.
_KEEPALIVE = b"SET tcp_keepalives_idle = 2; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 3"


class LivenessLock:
    """Holds the lock of this process and checks those of others, over one connection. Not thread-safe.

    Parameters:
        target: the database.
    """

    def __init__(self, target: PostgresTarget) -> None:
        self._target = target
        self._connection: psycopg.Connection[Any] | None = None
        self._held = False
        self._free_since: dict[str, float] = {}

    def hold(self, process: str, channel: str = "") -> None:
        """Take the lock of this process if it is not held, reconnecting if necessary.

        Parameters:
            channel: a name on which this connection receives notifications of other processes.

        Raises:
            StoreError: the database can't be reached.
        """
        with self._store_errors():
            if self._connection is None or self._connection.closed:
                self._connection, self._held = self._target.connect(), False
                self._connection.execute(_KEEPALIVE, prepare=False)
                if channel:
                    self._connection.execute(f'LISTEN "{channel}"'.encode(), prepare=False)
            if self._held:
                self._connection.execute("SELECT 1")
            else:
                self._held = self._try(process)

    def is_released(self, process: str) -> bool:
        """Return whether the lock of a process has been free for some time. Each check takes and releases the lock.

        Raises:
            StoreError: the database can't be reached.
        """
        if self._connection is None or not self._held:
            return False
        with self._store_errors():
            if not self._try(process):
                self._free_since.pop(process, None)
                return False
            self._connection.execute("SELECT pg_advisory_unlock(%s, %s)", (CLASS, _number(process)))
        return time.monotonic() - self._free_since.setdefault(process, time.monotonic()) >= RECONNECT_TIMEOUT

    def fileno(self) -> int | None:
        """Return the socket of the connection, or None if it is not connected."""
        if self._connection is None or self._connection.closed:
            return None
        return self._connection.fileno()

    def received(self) -> bool:
        """Return whether there are notifications, and drop them. A lost connection counts as one: something may have
        been missed.
        """
        import psycopg

        try:
            return self._connection is not None and bool(list(self._connection.notifies(timeout=0)))
        except psycopg.Error as error:
            log.debug("the connection of a worker was lost: %s", error)
            return True

    @contextlib.contextmanager
    def _store_errors(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.Error as error:
            raise StoreError(f"liveness lock of a worker: {self._target.format_error(error)}") from error

    def _try(self, process: str) -> bool:
        assert self._connection is not None
        row = self._connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (CLASS, _number(process))).fetchone()
        return row is not None and bool(row[0])

    def close(self) -> None:
        """Release the lock and close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _number(process: str) -> int:
    """Return the second key of a process's lock, a signed 32-bit number."""
    return zlib.crc32(process.encode()) - 2**31
