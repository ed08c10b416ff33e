"""The statements about the leases of processes, and about cancel requests for unknown runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from desist.db.tables.base import FINAL
from desist.db.tables.sql_transaction import SqlTransaction

__all__ = ["OwnerStatements", "PendingCancelStatements"]

#: Seconds after the end of its lease after which the row of a process without live runs is deleted.
_DAY = 86400.0


@dataclass(slots=True)
class OwnerStatements:
    """The processes that own runs."""

    _tx: SqlTransaction

    def heartbeat(self, process: str, address: str, lease: float) -> None:
        """Store that a process lives, how it is notified, and its lease of so many seconds."""
        names, until = self._tx.names, self._tx.now() + lease
        live = f"SELECT process FROM {names.runs} WHERE process IS NOT NULL AND status NOT IN {FINAL}"
        old = f"SELECT process FROM {names.owners} WHERE until < ? AND process NOT IN ({live}) {self._tx.skip}"
        self._tx.execute(f"DELETE FROM {names.owners} WHERE process IN ({old})", (until - _DAY,))
        self._tx.execute(
            f"INSERT INTO {names.owners} (process, address, until) VALUES (?, ?, ?)"
            " ON CONFLICT (process) DO UPDATE SET address = excluded.address, until = excluded.until",
            (process, address, until),
        )

    def get(self, process: str) -> tuple[str, float] | None:
        """Return the address of a process and the end of its lease, or None if it has recorded neither."""
        rows = self._tx.rows(f"SELECT address, until FROM {self._tx.names.owners} WHERE process = ?", (process,))
        return (rows[0][0], rows[0][1]) if rows else None

    def expire(self, process: str) -> None:
        """End the lease of a process that is known to be dead: its runs needn't wait for the end of the lease."""
        self._tx.execute(f"UPDATE {self._tx.names.owners} SET until = 0 WHERE process = ?", (process,))

    def delete(self, process: str) -> None:
        """Delete the row of a process that owns no runs any more."""
        self._tx.execute(f"DELETE FROM {self._tx.names.owners} WHERE process = ?", (process,))


@dataclass(slots=True)
class PendingCancelStatements:
    """Cancel requests for unknown ids."""

    _tx: SqlTransaction

    def put(self, run_id: str, cancel: str) -> None:
        """Store a request, unless there is one for this id already."""
        statement = f"INSERT INTO {self._tx.names.intents} VALUES (?, ?, ?) ON CONFLICT (run_id) DO NOTHING"
        self._tx.execute(statement, (run_id, cancel, self._tx.now()))

    def take(self, run_id: str, ttl: float) -> str | None:
        """Delete and return the request for a run that is known now; delete those older than `ttl` seconds."""
        return self.take_all([run_id], ttl).get(run_id)

    def take_all(self, run_ids: Sequence[str], ttl: float) -> dict[str, str]:
        """Do the same for many runs; return the requests by run."""
        return self._tx.take_pending_cancels(run_ids, ttl)
