"""The statements about followers: processes that are notified of the events of a run of another process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from desist.db.tables.base import placeholders
from desist.db.tables.sql_transaction import SqlTransaction

__all__ = ["FollowerStatements"]


@dataclass(slots=True)
class FollowerStatements:
    """The followers. An entry of a process that has died ends by its time, or with the run."""

    _tx: SqlTransaction

    def put(self, run_ids: Sequence[str], address: str, seconds: float) -> None:
        """Notify this address of the events of these runs, for so many seconds; delete entries that are over."""
        table, now = self._tx.names.followers, self._tx.now()
        over = f"SELECT run_id FROM {table} WHERE until < ? {self._tx.skip}"
        self._tx.execute(f"DELETE FROM {table} WHERE until < ? AND run_id IN ({over})", (now, now))
        for run_id in sorted(run_ids):
            self._tx.execute(
                f"INSERT INTO {table} (run_id, address, until) VALUES (?, ?, ?)"
                " ON CONFLICT (run_id, address) DO UPDATE SET until = excluded.until",
                (run_id, address, now + seconds),
            )

    def of_runs(self, run_ids: Sequence[str]) -> list[tuple[str, str]]:
        """Return the followers of these runs: the run and the address."""
        where = f"run_id IN ({placeholders(len(run_ids))})"
        rows = self._tx.rows(f"SELECT run_id, address FROM {self._tx.names.followers} WHERE {where}", run_ids)
        return [(row[0], row[1]) for row in rows]

    def delete(self, run_ids: Sequence[str], address: str) -> None:
        """Notify an address of these runs no longer."""
        where = f"run_id IN ({placeholders(len(run_ids))}) AND address = ?"
        self._tx.execute(f"DELETE FROM {self._tx.names.followers} WHERE {where}", [*run_ids, address])

    def delete_address(self, address: str) -> None:
        """Delete a process that can't be notified any more."""
        self._tx.execute(f"DELETE FROM {self._tx.names.followers} WHERE address = ?", (address,))

    def end(self, run_ids: Sequence[str]) -> list[str]:
        """Delete the followers of runs that have ended; return their addresses."""
        where = f"run_id IN ({placeholders(len(run_ids))})"
        rows = self._tx.rows(f"DELETE FROM {self._tx.names.followers} WHERE {where} RETURNING address", run_ids)
        return sorted({str(row[0]) for row in rows})
