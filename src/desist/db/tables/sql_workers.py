"""The statements about workers, the limits of workflows, and schedules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import msgspec

from desist.db.tables.base import LimitRow, ScheduleRow, WorkerRow, columns_of, placeholders
from desist.db.tables.sql_transaction import SqlTransaction

__all__ = ["LimitStatements", "ScheduleStatements", "WorkerStatements"]


@dataclass(slots=True)
class WorkerStatements:
    """The workers."""

    _tx: SqlTransaction

    def put(self, row: WorkerRow) -> None:
        """Store that a worker lives. Whether it is hungry is not changed."""
        self._tx.execute(
            f"INSERT INTO {self._tx.names.workers} ({columns_of(WorkerRow)}) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (process) DO UPDATE SET workflows = excluded.workflows, until = excluded.until,"
            " address = excluded.address, concurrency = excluded.concurrency",
            (
                row.process,
                msgspec.json.encode(row.workflows).decode(),
                row.until,
                row.address,
                row.hungry,
                row.concurrency,
                row.started_at,
            ),
        )

    def all(self) -> list[WorkerRow]:
        """Return all workers, those too whose lease has ended and whose runs were not requeued yet."""
        rows = self._tx.rows(f"SELECT {columns_of(WorkerRow)} FROM {self._tx.names.workers} ORDER BY process")
        return [WorkerRow(process, msgspec.json.decode(names), *rest) for process, names, *rest in rows]

    def set_hungry(self, process: str, hungry: bool) -> None:
        """Store whether a worker wants to be notified of new runs.

        A worker locks the queue first, and looks for runs afterwards: it finds each run that was added by a transaction
        that could not see that it is hungry. See `notify_hungry`.
        """
        if hungry:
            self._tx.lock_names([self._tx.names.queue])
        self._tx.execute(f"UPDATE {self._tx.names.workers} SET hungry = ? WHERE process = ?", (int(hungry), process))

    def notify_hungry(self, owner_ids: Sequence[str]) -> list[str]:
        """Notify the workers that wait for runs of these workflows; return their addresses. The last lock taken."""
        if not owner_ids:
            return []
        self._tx.lock_names([self._tx.names.queue], shared=True)
        rows = self._tx.rows(f"SELECT address, workflows FROM {self._tx.names.workers} WHERE hungry = 1")
        wanted = set(owner_ids)
        addresses = [str(address) for address, names in rows if wanted & set(msgspec.json.decode(names))]
        for address in addresses:
            self._tx.notify(address)
        return addresses

    def delete(self, process: str) -> bool:
        """Delete a worker; return whether it existed."""
        return self._tx.execute(f"DELETE FROM {self._tx.names.workers} WHERE process = ?", (process,)) > 0


@dataclass(slots=True)
class LimitStatements:
    """The limits of workflows."""

    _tx: SqlTransaction

    def all(self) -> dict[str, LimitRow]:
        """Return the limits by the ids of the workflows."""
        rows = self._tx.rows(f"SELECT {columns_of(LimitRow)} FROM {self._tx.names.limits}")
        return {row[0]: LimitRow(*row) for row in rows}

    def per_key(self, owner_id: str) -> int:
        """Return the maximum of live runs of a workflow with one key."""
        rows = self._tx.rows(f"SELECT per_key FROM {self._tx.names.limits} WHERE owner_id = ?", (owner_id,))
        return int(rows[0][0]) if rows and rows[0][0] is not None else 1

    def put(self, row: LimitRow) -> None:
        """Store the limits of a workflow."""
        self._tx.execute(
            f"INSERT INTO {self._tx.names.limits} ({columns_of(LimitRow)}) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (owner_id) DO UPDATE SET runs = excluded.runs, per_key = excluded.per_key,"
            " paused = excluded.paused",
            astuple(row),
        )

    def lock(self, owner_id: str) -> None:
        """Keep other transactions from claiming runs of a workflow whose live runs are counted."""
        self._tx.lock_names([f"{self._tx.names.limits} {owner_id}"])


@dataclass(slots=True)
class ScheduleStatements:
    """The runs that are submitted periodically."""

    _tx: SqlTransaction

    def all(self) -> list[ScheduleRow]:
        """Return all schedules."""
        rows = self._tx.rows(f"SELECT {columns_of(ScheduleRow)} FROM {self._tx.names.schedules} ORDER BY name")
        return [ScheduleRow(*row) for row in rows]

    def put(self, row: ScheduleRow) -> None:
        """Store a schedule, replacing one of its name."""
        self._tx.execute(
            f"INSERT INTO {self._tx.names.schedules} ({columns_of(ScheduleRow)}) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET owner_id = excluded.owner_id, cron = excluded.cron,"
            " timezone = excluded.timezone, request = excluded.request, next_at = excluded.next_at",
            astuple(row),
        )

    def due(self, owner_ids: Sequence[str]) -> list[ScheduleRow]:
        """Return the schedules of these workflows whose time has come."""
        rows = self._tx.rows(
            f"SELECT {columns_of(ScheduleRow)} FROM {self._tx.names.schedules}"
            f" WHERE owner_id IN ({placeholders(len(owner_ids))}) AND next_at <= ?",
            [*owner_ids, self._tx.now()],
        )
        return [ScheduleRow(*row) for row in rows]

    def advance(self, row: ScheduleRow, to: ScheduleRow) -> None:
        """Set the next time of a schedule that is as the row says."""
        self._tx.execute(
            f"UPDATE {self._tx.names.schedules} SET next_at = ? WHERE name = ? AND next_at = ? AND cron = ?",
            (to.next_at, row.name, row.next_at, row.cron),
        )

    def delete(self, name: str) -> bool:
        """Delete a schedule; return whether it existed."""
        return self._tx.execute(f"DELETE FROM {self._tx.names.schedules} WHERE name = ?", (name,)) > 0
