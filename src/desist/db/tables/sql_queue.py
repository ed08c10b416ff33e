"""The statements about runs that wait for a worker, and about workers. A part of `SqlTables`.

A run that waits is a row of runs whose process is `QUEUED`, which no process is called. Beside it stands how it was
asked for, until it has ended: a worker that goes on with it after a crash needs that, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from desist.db.tables.base import FINAL, QUEUED

__all__ = ["QueueStatements", "QueuedRow", "WorkerRow"]


@dataclass(frozen=True, slots=True)
class QueuedRow:
    """A run that was submitted. The fields are the columns, in their order."""

    run_id: str
    owner_id: str  #: of its workflow
    options: str  #: JSON: how it was asked for
    sent: int  #: how often it was given to the engine; 0: it is still to be
    at: float  #: when it was submitted; seconds since the epoch
    sent_at: float | None = None  #: when it was given to the engine the last time


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker. The fields are the columns, in their order."""

    process: str
    workflows: list[str]  #: ids of those that it has
    until: float  #: when it isn't believed to live any more; seconds since the epoch


class QueueStatements:
    """Queries and changes, over the connection of `SqlTables`."""

    __slots__ = ()

    _names: Any

    def _do(self, statement: str, values: Sequence[Any] = ()) -> int:
        raise NotImplementedError

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        raise NotImplementedError

    def now(self) -> float:
        """Return the time that all processes on these tables go by; seconds since the epoch."""
        raise NotImplementedError

    # -- the queue

    def put_queued(self, run_id: str, owner_id: str, options: str) -> None:
        """Let a run be sent; one that was sent before is sent again, asked for as it was."""
        self._do(
            f"INSERT INTO {self._names.queue} (run_id, owner_id, options, sent, at) VALUES (?, ?, ?, 0, ?)"
            f" ON CONFLICT (run_id) DO UPDATE SET sent = -abs({self._names.queue}.sent)",
            (run_id, owner_id, options, self.now()),
        )

    def get_queued(self, run_id: str) -> QueuedRow | None:
        """Return how a run was asked for."""
        rows = self._rows(
            f"SELECT run_id, owner_id, options, sent, at, sent_at FROM {self._names.queue} WHERE run_id = ?", [run_id]
        )
        return QueuedRow(*rows[0]) if rows else None

    def send(self, owner_ids: Sequence[str], limit: int) -> list[QueuedRow]:
        """Take runs of these workflows that are to be sent, the oldest first; they count as sent from now on."""
        names, marks = self._names, ", ".join("?" * len(owner_ids))
        due = (
            f"SELECT q.run_id FROM {names.queue} q JOIN {names.runs} r ON r.run_id = q.run_id"
            f" WHERE q.sent <= 0 AND q.owner_id IN ({marks}) AND r.process = ? AND r.status NOT IN {FINAL}"
            " ORDER BY q.at LIMIT ?"
        )
        rows = self._rows(
            f"UPDATE {names.queue} SET sent = 1 - sent, sent_at = ? WHERE sent <= 0 AND run_id IN ({due})"
            " RETURNING run_id, owner_id, options, sent, at, sent_at",
            [self.now(), *owner_ids, QUEUED, limit],
        )
        return sorted((QueuedRow(*row) for row in rows), key=lambda row: row.at)

    def unsent(self, owner_ids: Sequence[str]) -> bool:
        """Whether there may be something to send."""
        marks = ", ".join("?" * len(owner_ids))
        return bool(
            self._rows(
                f"SELECT 1 FROM {self._names.queue} WHERE sent <= 0 AND owner_id IN ({marks}) LIMIT 1", owner_ids
            )
        )

    def waiting(self, limit: int, before: float | None = None) -> list[QueuedRow]:
        """Return runs that wait for a worker, the oldest first; with `before`, only those sent earlier than that."""
        names = self._names
        rows = self._rows(
            f"SELECT q.run_id, q.owner_id, q.options, q.sent, q.at, q.sent_at FROM {names.queue} q"
            f" JOIN {names.runs} r ON r.run_id = q.run_id WHERE r.process = ? AND r.status NOT IN {FINAL}"
            " AND (CAST(? AS REAL) IS NULL OR (q.sent > 0 AND q.sent_at < ?)) ORDER BY q.at LIMIT ?",
            (QUEUED, before, before, limit),
        )
        return [QueuedRow(*row) for row in rows]

    def drop_queued(self, run_id: str) -> None:
        """Forget how a run was asked for: it has ended."""
        self._do(f"DELETE FROM {self._names.queue} WHERE run_id = ?", (run_id,))

    def drop_ended(self) -> None:
        """Do the same for all that have ended or were deleted."""
        names = self._names
        live = f"SELECT run_id FROM {names.runs} WHERE status NOT IN {FINAL}"
        self._do(f"DELETE FROM {names.queue} WHERE run_id NOT IN ({live})")

    # -- workers

    def put_worker(self, process: str, workflows: Sequence[str], lease: float) -> None:
        """Record that a worker lives, for so many seconds, and what it has."""
        self._do(
            f"INSERT INTO {self._names.workers} (process, workflows, until) VALUES (?, ?, ?)"
            " ON CONFLICT (process) DO UPDATE SET workflows = excluded.workflows, until = excluded.until",
            (process, msgspec.json.encode(list(workflows)).decode(), self.now() + lease),
        )

    def workers(self) -> list[WorkerRow]:
        """Return the workers, also those that are believed dead and weren't found out yet."""
        rows = self._rows(f"SELECT process, workflows, until FROM {self._names.workers} ORDER BY process")
        return [WorkerRow(process, msgspec.json.decode(workflows), until) for process, workflows, until in rows]

    def drop_worker(self, process: str) -> bool:
        """Forget a worker; return whether it was there."""
        return self._do(f"DELETE FROM {self._names.workers} WHERE process = ?", (process,)) > 0

    def expire_owner(self, process: str) -> None:
        """A process is known to be dead: its runs needn't wait for its lease."""
        self._do(f"UPDATE {self._names.owners} SET until = 0 WHERE process = ?", (process,))
