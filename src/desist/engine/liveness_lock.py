"""A lock that a worker holds in Postgres for as long as it is connected: others see at once when it is gone.

The server lets go of it when the connection ends: with the process, or soon after its machine, by TCP keepalives. A
pooler between the two breaks this; then nobody is seen to die by it, and the lease decides. Called by the keeper.
"""

from __future__ import annotations

import logging
import time
import zlib
from typing import TYPE_CHECKING, Any

from desist.db.process.postgres_target import PostgresTarget

if TYPE_CHECKING:
    import psycopg

__all__ = ["LivenessLock"]

log = logging.getLogger("desist.engine")

#: The first of the two numbers of the locks: ours.
CLASS = 0x64657369
#: Seconds for which a lock must be free before its holder counts as dead: it may only be connecting anew.
PATIENCE = 1.5
#: The server notices within five seconds that a machine is gone.
_NOTICE = b"SET tcp_keepalives_idle = 2; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 3"


class LivenessLock:
    """The lock of this process, and looks at those of others, over one connection. For one thread.

    Parameters:
        target: the database.
    """

    def __init__(self, target: PostgresTarget) -> None:
        self._target = target
        self._connection: psycopg.Connection[Any] | None = None
        self._held = False
        self._free_since: dict[str, float] = {}

    def hold(self, process: str) -> None:
        """Hold the lock of this process, anew if the connection was lost.

        Raises:
            psycopg.Error: the database can't be reached.
        """
        if self._connection is None or self._connection.closed:
            self._connection, self._held = self._target.connect(), False
            self._connection.execute(_NOTICE, prepare=False)
        if self._held:
            self._connection.execute("SELECT 1")
        else:
            self._held = self._try(process)

    def is_released(self, process: str) -> bool:
        """Whether that process has let go of its lock for some time. One look takes it and gives it back.

        Raises:
            psycopg.Error: the database can't be reached.
        """
        if self._connection is None or not self._held:
            return False
        if not self._try(process):
            self._free_since.pop(process, None)
            return False
        self._connection.execute("SELECT pg_advisory_unlock(%s, %s)", (CLASS, _number(process)))
        return time.monotonic() - self._free_since.setdefault(process, time.monotonic()) >= PATIENCE

    def _try(self, process: str) -> bool:
        assert self._connection is not None
        row = self._connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (CLASS, _number(process))).fetchone()
        return row is not None and bool(row[0])

    def close(self) -> None:
        """Let go."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _number(process: str) -> int:
    """Return the second number of a process's lock, as Postgres has them: with a sign."""
    return zlib.crc32(process.encode()) - 2**31
