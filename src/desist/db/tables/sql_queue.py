"""The statements about runs that wait for a worker, and about workers.

A waiting run is a row of the runs whose process is `QUEUED`. Its row in the queue has the options that it was submitted
with, and stays until the run has ended: a worker that resumes the run after a crash needs the options, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from desist.db.tables.base import FINAL, QUEUED, QueuedRow, WorkerRow, columns_of, placeholders
from desist.db.tables.sql_transaction import SqlTransaction

__all__ = ["QueueStatements", "WorkerStatements"]

_COLUMNS = columns_of(QueuedRow)


@dataclass(slots=True)
class QueueStatements:
    """The queue."""

    _tx: SqlTransaction

    def put(self, run_id: str, owner_id: str, options: str) -> None:
        """Make a run due to be sent; a run that was sent before is sent again, with the options that it has."""
        queue = self._tx.names.queue
        self._tx.execute(
            f"INSERT INTO {queue} (run_id, owner_id, options, sent, at) VALUES (?, ?, ?, 0, ?)"
            f" ON CONFLICT (run_id) DO UPDATE SET sent = -abs({queue}.sent)",
            (run_id, owner_id, options, self._tx.now()),
        )

    def get(self, run_id: str) -> QueuedRow | None:
        """Return the row of a run."""
        rows = self._tx.rows(f"SELECT {_COLUMNS} FROM {self._tx.names.queue} WHERE run_id = ?", (run_id,))
        return QueuedRow(*rows[0]) if rows else None

    def send(self, owner_ids: Sequence[str], limit: int) -> list[QueuedRow]:
        """Take runs of these workflows that are to be sent, the oldest first; from now on they count as sent."""
        names = self._tx.names
        due = (
            f"SELECT q.run_id FROM {names.queue} q JOIN {names.runs} r ON r.run_id = q.run_id"
            f" WHERE q.sent <= 0 AND q.owner_id IN ({placeholders(len(owner_ids))}) AND r.process = ?"
            f" AND r.status NOT IN {FINAL} ORDER BY q.at LIMIT ?"
        )
        rows = self._tx.rows(
            f"UPDATE {names.queue} SET sent = 1 - sent, sent_at = ? WHERE sent <= 0 AND run_id IN ({due})"
            f" RETURNING {_COLUMNS}",
            [self._tx.now(), *owner_ids, QUEUED, limit],
        )
        return sorted((QueuedRow(*row) for row in rows), key=lambda row: row.at)

    def has_unsent(self, owner_ids: Sequence[str]) -> bool:
        """Return whether there may be runs to send."""
        where = f"sent <= 0 AND owner_id IN ({placeholders(len(owner_ids))})"
        return bool(self._tx.rows(f"SELECT 1 FROM {self._tx.names.queue} WHERE {where} LIMIT 1", owner_ids))

    def waiting(self, limit: int, before: float | None = None) -> list[QueuedRow]:
        """Return the runs that wait for a worker, the oldest first; with `before`, only those sent before that time."""
        names, columns = self._tx.names, ", ".join(f"q.{name}" for name in QueuedRow.__slots__)
        rows = self._tx.rows(
            f"SELECT {columns} FROM {names.queue} q"
            f" JOIN {names.runs} r ON r.run_id = q.run_id WHERE r.process = ? AND r.status NOT IN {FINAL}"
            " AND (CAST(? AS REAL) IS NULL OR (q.sent > 0 AND q.sent_at < ?)) ORDER BY q.at LIMIT ?",
            (QUEUED, before, before, limit),
        )
        return [QueuedRow(*row) for row in rows]

    def delete_ended(self) -> None:
        """Delete the rows of runs that have ended or were deleted."""
        names = self._tx.names
        live = f"SELECT run_id FROM {names.runs} WHERE status NOT IN {FINAL}"
        self._tx.execute(f"DELETE FROM {names.queue} WHERE run_id NOT IN ({live})")


@dataclass(slots=True)
class WorkerStatements:
    """The workers."""

    _tx: SqlTransaction

    def put(self, process: str, workflows: Sequence[str], lease: float) -> None:
        """Store that a worker lives, its lease of so many seconds, and its workflows."""
        self._tx.execute(
            f"INSERT INTO {self._tx.names.workers} (process, workflows, until) VALUES (?, ?, ?)"
            " ON CONFLICT (process) DO UPDATE SET workflows = excluded.workflows, until = excluded.until",
            (process, msgspec.json.encode(list(workflows)).decode(), self._tx.now() + lease),
        )

    def all(self) -> list[WorkerRow]:
        """Return all workers, those too whose lease has ended and whose runs were not requeued yet."""
        rows = self._tx.rows(f"SELECT process, workflows, until FROM {self._tx.names.workers} ORDER BY process")
        return [WorkerRow(process, msgspec.json.decode(workflows), until) for process, workflows, until in rows]

    def delete(self, process: str) -> bool:
        """Delete a worker; return whether it existed."""
        return self._tx.execute(f"DELETE FROM {self._tx.names.workers} WHERE process = ?", (process,)) > 0
