"""The statements about submitted runs. A row of the queue stays from the submission to the end of its run.

A run that waits is a row of the runs whose process is `QUEUED`; its row in the queue says when it may be claimed. Both
rows are changed in one transaction. Indexes cover each state apart, so the time of a claim does not depend on the runs
that wait for other workflows, for their time, or for their key.

Locks are taken in this order: the row of the run, its row here, the name of a key, the name of the queue. Claims skip
rows that others have locked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from desist.db.tables.base import FINAL, QUEUED, QueuedRow, QueueState, RunRow, columns_of, placeholders
from desist.db.tables.sql_transaction import SqlTransaction

__all__ = ["QueueStatements"]

_COLUMNS = columns_of(QueuedRow)
_VALUES = placeholders(len(QueuedRow.__slots__))
_DUE = QueuedRow.__slots__.index("due_at")
_values = attrgetter(*QueuedRow.__slots__)
_RUN = ", ".join(f"r.{name}" for name in RunRow.__slots__)
_QUEUED = ", ".join(f"q.{name}" for name in QueuedRow.__slots__)
#: The maximum of rows in one statement.
MANY = 500
#: The maximum of scheduled runs that one transaction makes ready.
BATCH = 200


@dataclass(slots=True)
class QueueStatements:
    """The queue."""

    _tx: SqlTransaction

    # -- adding

    def add(self, rows: Sequence[QueuedRow]) -> None:
        """Add new runs in states that `admit` has chosen."""
        if rows:
            self._tx.insert_rows(
                f"INSERT INTO {self._tx.names.queue} ({_COLUMNS})", [_values(row) for row in rows], numbers=[_DUE]
            )

    def admit(self, row: QueuedRow, per_key: int) -> None:
        """Choose the state of a run that is to wait. Locks its key, until the end of the transaction.

        Parameters:
            per_key: the maximum of live runs with one key.
        """
        row.state = QueueState.ready
        if row.due_at is not None and row.due_at > self._tx.now():
            row.state = QueueState.scheduled
        elif row.concurrency_key is not None:
            self._lock_key(row.owner_id, row.concurrency_key)
            if self._admitted(row.owner_id, row.concurrency_key) >= per_key:
                row.state = QueueState.held

    def requeue(self, run_id: str, owner_id: str) -> None:
        """Let a run wait again that a worker has had, or that was never submitted. It keeps its age, and its key."""
        row = QueuedRow(run_id, owner_id, "{}", self._tx.now())
        statement = f"INSERT INTO {self._tx.names.queue} ({_COLUMNS}) VALUES ({_VALUES})"
        self._tx.execute(f"{statement} ON CONFLICT (run_id) DO UPDATE SET state = excluded.state", _values(row))

    def waiting_with(self, owner_id: str, dedup_key: str) -> str | None:
        """Return the id of the run of a workflow that waits with this key."""
        query = f"SELECT run_id FROM {self._tx.names.queue} WHERE owner_id = ? AND dedup_key = ?"
        rows = self._tx.rows(query, (owner_id, dedup_key))
        return str(rows[0][0]) if rows else None

    def lock_dedup(self, owner_id: str, dedup_key: str) -> None:
        """Keep other transactions from adding a run with this key."""
        self._tx.lock_names([f"{self._tx.names.queue} once {owner_id} {dedup_key}"])

    # -- claiming

    def claimable(self, owner_id: str, limit: int) -> list[tuple[RunRow, QueuedRow]]:
        """Return the next runs of a workflow, and lock them."""
        names = self._tx.names
        rows = self._tx.rows(
            f"SELECT {_RUN}, {_QUEUED} FROM {names.queue} q JOIN {names.runs} r ON r.run_id = q.run_id"
            f" WHERE q.state = {QueueState.ready:d} AND q.owner_id = ?"
            f" AND r.process = ? AND r.cancel IS NULL AND r.status NOT IN {FINAL}"
            f" ORDER BY q.priority DESC, q.at LIMIT ? {self._tx.skip}",
            (owner_id, QUEUED, limit),
        )
        width = len(RunRow.__slots__)
        return [(RunRow(*row[:width]), QueuedRow(*row[width:])) for row in rows]

    def mark_claimed(self, run_ids: Sequence[str]) -> None:
        """Store that workers have these runs."""
        self._tx.execute(
            f"UPDATE {self._tx.names.queue} SET state = {QueueState.claimed:d}, dedup_key = NULL"
            f" WHERE run_id IN ({placeholders(len(run_ids))})",
            run_ids,
        )

    def claimed_count(self, owner_id: str) -> int:
        """Return how many runs of a workflow workers have."""
        query = f"SELECT count(*) FROM {self._tx.names.queue} WHERE state = {QueueState.claimed:d} AND owner_id = ?"
        return int(self._tx.rows(query, (owner_id,))[0][0])

    def make_due(self, per_key: dict[str, int]) -> list[str]:
        """Make the scheduled runs ready whose time has come; return the ids of their workflows."""
        queue = self._tx.names.queue
        rows = self._tx.rows(
            f"SELECT {_COLUMNS} FROM {queue} WHERE state = {QueueState.scheduled:d} AND due_at <= ?"
            f" ORDER BY due_at LIMIT {BATCH} {self._tx.skip}",
            (self._tx.now(),),
        )
        found = [QueuedRow(*row) for row in rows]
        for row in sorted(found, key=lambda row: (row.owner_id, row.concurrency_key or "")):
            self.admit(row, per_key.get(row.owner_id, 1))
            self._tx.execute(f"UPDATE {queue} SET state = ? WHERE run_id = ?", (row.state, row.run_id))
        return [row.owner_id for row in found]

    def next_due(self) -> float | None:
        """Return when the next scheduled run is due."""
        query = f"SELECT min(due_at) FROM {self._tx.names.queue} WHERE state = {QueueState.scheduled:d}"
        found = self._tx.rows(query)[0][0]
        return float(found) if found is not None else None

    # -- removing

    def remove(self, run_ids: Sequence[str], per_key: dict[str, int]) -> list[str]:
        """Delete the rows of those of these runs that have ended, and admit runs with their keys; return the workflows
        of those.

        A run whose end could not be stored yet stays: a process that resumes the run needs its options.
        """
        keys: set[tuple[str, str]] = set()
        live = f"SELECT run_id FROM {self._tx.names.runs} WHERE status NOT IN {FINAL}"
        for start in range(0, len(run_ids), MANY):
            some = run_ids[start : start + MANY]
            these = f"run_id IN ({placeholders(len(some))})"
            keys |= self._delete(f"{these} AND run_id NOT IN ({live} AND {these})", [*some, *some])
        return self._admit_held(keys, per_key)

    def remove_ended(self, per_key: dict[str, int]) -> list[str]:
        """Do that for all runs that have ended or were deleted, and whose process did not do it."""
        names = self._tx.names
        query = (
            f"SELECT q.run_id FROM {names.queue} q LEFT JOIN {names.runs} r ON r.run_id = q.run_id"
            f" WHERE r.run_id IS NULL OR r.status IN {FINAL} LIMIT {MANY}"
        )
        return self.remove([str(row[0]) for row in self._tx.rows(query)], per_key)

    def admit_all_held(self, owner_id: str, per_key: int) -> list[str]:
        """Admit the held runs of a workflow whose limit was raised."""
        query = (
            f"SELECT DISTINCT concurrency_key FROM {self._tx.names.queue}"
            f" WHERE owner_id = ? AND concurrency_key IS NOT NULL AND state = {QueueState.held:d}"
        )
        keys = {(owner_id, str(row[0])) for row in self._tx.rows(query, (owner_id,))}
        return self._admit_held(keys, {owner_id: per_key})

    def _delete(self, where: str, values: Sequence[str]) -> set[tuple[str, str]]:
        statement = f"DELETE FROM {self._tx.names.queue} WHERE {where} RETURNING owner_id, concurrency_key"
        return {(owner, key) for owner, key in self._tx.rows(statement, values) if key is not None}

    def _admit_held(self, keys: Iterable[tuple[str, str]], per_key: dict[str, int]) -> list[str]:
        """Make held runs with these keys ready, as many as the limits allow; return the ids of their workflows."""
        queue, admitted = self._tx.names.queue, []
        for owner_id, key in sorted(keys):
            self._lock_key(owner_id, key)
            free = per_key.get(owner_id, 1) - self._admitted(owner_id, key)
            if free <= 0:
                continue
            held = (
                f"SELECT run_id FROM {queue} WHERE owner_id = ? AND concurrency_key = ?"
                f" AND state = {QueueState.held:d} ORDER BY priority DESC, at LIMIT ? {self._tx.skip}"
            )
            ready = f"UPDATE {queue} SET state = {QueueState.ready:d} WHERE run_id IN ({held})"
            if self._tx.execute(ready, (owner_id, key, free)):
                admitted.append(owner_id)
        return admitted

    def _lock_key(self, owner_id: str, key: str) -> None:
        self._tx.lock_names([f"{self._tx.names.queue} {owner_id} {key}"])

    def _admitted(self, owner_id: str, key: str) -> int:
        """Return how many runs with a key are live, or ready to be claimed."""
        query = (
            f"SELECT count(*) FROM {self._tx.names.queue} WHERE owner_id = ? AND concurrency_key = ?"
            f" AND state IN ({QueueState.ready:d}, {QueueState.claimed:d})"
        )
        return int(self._tx.rows(query, (owner_id, key))[0][0])

    # -- reading

    def get(self, run_id: str) -> QueuedRow | None:
        """Return the row of a run."""
        rows = self._tx.rows(f"SELECT {_COLUMNS} FROM {self._tx.names.queue} WHERE run_id = ?", (run_id,))
        return QueuedRow(*rows[0]) if rows else None

    def waiting(self, limit: int) -> list[QueuedRow]:
        """Return the runs that wait, the longest wait first."""
        names = self._tx.names
        rows = self._tx.rows(
            f"SELECT {_QUEUED} FROM {names.queue} q JOIN {names.runs} r ON r.run_id = q.run_id"
            f" WHERE q.state <> {QueueState.claimed:d} AND r.process = ? AND r.status NOT IN {FINAL}"
            " ORDER BY q.at LIMIT ?",
            (QUEUED, limit),
        )
        return [QueuedRow(*row) for row in rows]

    def counts(self) -> list[tuple[str, int, int, float]]:
        """Return workflow id, state, number of runs and time of the oldest, for each workflow and state."""
        rows = self._tx.rows(
            f"SELECT owner_id, state, count(*), min(at) FROM {self._tx.names.queue} GROUP BY owner_id, state"
        )
        return [(str(owner), int(state), int(count), float(at)) for owner, state, count, at in rows]
