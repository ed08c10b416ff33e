"""The statements about runs and their parts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from desist.db.tables.base import FINAL, QUEUED, PartRow, RunRow, Which, columns_of, placeholders, values_of_run
from desist.db.tables.sql_transaction import PART_COLUMNS, SqlTransaction
from desist.run.storage.values import RunQuery

__all__ = ["ALL", "PartStatements", "RunStatements"]

_COLUMNS = columns_of(RunRow)
_VALUES = placeholders(len(RunRow.__slots__))
_HEADER = ", ".join(name if name != "output" else "''" for name in RunRow.__slots__)
_CHANGES = ", ".join(f"{name} = excluded.{name}" for name in RunRow.__slots__[1:])
ALL = 2**63 - 1  #: the limit of a query without a limit
#: The maximum of ids in one query.
MANY = 500


@dataclass(slots=True)
class RunStatements:
    """The runs. A header is a row without its output, which is large."""

    _tx: SqlTransaction

    def lock(self, run_id: str) -> None:
        """Keep other transactions from claiming or cancelling a run of this id, which may not exist yet."""
        self._tx.lock_name(self._tx.names.run_lock(run_id))

    # -- whole rows

    def _whole(self, where: str, values: Sequence[Any], rest: str = "") -> list[RunRow]:
        rows = self._tx.rows(f"SELECT {_COLUMNS} FROM {self._tx.names.runs} WHERE {where} {rest}", values)
        return [RunRow(*row) for row in rows]

    def get(self, run_id: str) -> RunRow | None:
        """Return a run."""
        found = self._whole("run_id = ?", (run_id,), self._tx.lock)
        return found[0] if found else None

    def put(self, row: RunRow) -> None:
        """Store a run, replacing an earlier one of its id, and delete its parts."""
        self._tx.change_run(
            f"INSERT INTO {self._tx.names.runs} ({_COLUMNS}) VALUES ({_VALUES})"
            f" ON CONFLICT (run_id) DO UPDATE SET {_CHANGES}",
            values_of_run(row),
            row.run_id,
        )

    def put_new(self, rows: Sequence[RunRow]) -> None:
        """Store runs that have no parts, such as new ones. An earlier row of an id is replaced."""
        if not rows:
            return
        self._tx.insert_rows(
            f"INSERT INTO {self._tx.names.runs} ({_COLUMNS})",
            [values_of_run(row) for row in rows],
            f"ON CONFLICT (run_id) DO UPDATE SET {_CHANGES}",
        )

    def queued(self, run_ids: Sequence[str]) -> list[RunRow]:
        """Return those of these runs that wait for a worker and have not begun, and lock them."""
        found: list[RunRow] = []
        for start in range(0, len(run_ids), MANY):
            some = run_ids[start : start + MANY]
            where = f"run_id IN ({placeholders(len(some))}) AND process = ? AND epoch = 0 AND status NOT IN {FINAL}"
            found += self._whole(where, [*some, QUEUED], f"ORDER BY run_id {self._tx.lock}")
        return found

    def claim(self, rows: Sequence[RunRow], process: str) -> None:
        """Make a process the owner of locked runs that have not begun."""
        now = time.time()
        for row in rows:
            row.process, row.epoch, row.updated_at = process, row.epoch + 1, now
        self._tx.execute(
            f"UPDATE {self._tx.names.runs} SET process = ?, epoch = epoch + 1, updated_at = ?"
            f" WHERE run_id IN ({placeholders(len(rows))})",
            [process, now, *(row.run_id for row in rows)],
        )

    def end(self, row: RunRow) -> bool:
        """Store the end of a live run, and delete its parts; return False if the run is not in the epoch of the row."""
        return bool(self.end_all([row]))

    def end_all(self, rows: Sequence[RunRow]) -> set[str]:
        """Store the ends of live runs, as `end` does; return the ids of those that were in the epochs of the rows."""
        return self._tx.end_runs(rows)

    def pause(self, row: RunRow) -> bool:
        """Store that a live run is paused, without a process; return False if it is cancelled or in another epoch."""
        return self._tx.change_run(
            f"UPDATE {self._tx.names.runs} SET status = ?, updated_at = ?, output = ?, process = NULL"
            f" WHERE run_id = ? AND epoch = ? AND cancel IS NULL AND status NOT IN {FINAL}",
            (row.status, row.updated_at, row.output, row.run_id, row.epoch),
            row.run_id,
        )

    def delete(self, run_id: str) -> bool:
        """Delete a run, its parts, events and requirements; return whether the run existed."""
        names = self._tx.names
        for table in (names.events, names.parts, names.requirements):
            self._tx.execute(f"DELETE FROM {table} WHERE run_id = ?", (run_id,))
        return self._tx.execute(f"DELETE FROM {names.runs} WHERE run_id = ?", (run_id,)) > 0

    def open_in_tree(self, root_run_id: str) -> list[RunRow]:
        """Return the runs of a tree that have not ended."""
        where, rest = f"root_run_id = ? AND status NOT IN {FINAL}", f"ORDER BY run_id {self._tx.lock}"
        return self._whole(where, (root_run_id,), rest)

    def children(self, parent_run_id: str) -> list[RunRow]:
        """Return the runs that were started in a run, the oldest first."""
        return self._whole("parent_run_id = ?", (parent_run_id,), f"ORDER BY created_at, {self._tx.order}")

    def of_session(
        self, session_id: str, kind: str | None, owner_id: str | None, limit: int | None, which: Which
    ) -> list[RunRow]:
        """Return the last runs of a session, the oldest first."""
        where, values = _equal(session_id=session_id, kind=kind, owner_id=owner_id)
        if which != "all":
            where.append(f"status {'' if which == 'ended' else 'NOT '}IN {FINAL}")
        newest = f"ORDER BY created_at DESC, {self._tx.order} DESC LIMIT ?"
        return self._whole(" AND ".join(where), [*values, ALL if limit is None else limit], newest)[::-1]

    def matching(self, query: RunQuery) -> list[RunRow]:
        """Return the matching runs, the newest first; all live runs match, whatever their status and the limit."""
        where, values = _conditions(query)
        limit = None if query.status is not None and not query.status.is_final else query.limit
        newest = "ORDER BY created_at DESC, run_id DESC LIMIT ?"
        return self._whole(" AND ".join(where), [*values, ALL if limit is None else limit], newest)

    # -- headers

    def _headers(self, where: str, values: Sequence[Any] = (), rest: str = "") -> list[RunRow]:
        rows = self._tx.rows(f"SELECT {_HEADER} FROM {self._tx.names.runs} WHERE {where} {rest}", values)
        return [RunRow(*row) for row in rows]

    def header(self, run_id: str) -> RunRow | None:
        """Return the header of a run. In a transaction of the writer, no other transaction changes the run."""
        found = self.headers([run_id])
        return found[0] if found else None

    def headers(self, run_ids: Sequence[str]) -> list[RunRow]:
        """Return the headers of those of these runs that exist. They are locked in the order of their ids."""
        found: list[RunRow] = []
        for start in range(0, len(run_ids), MANY):
            some = run_ids[start : start + MANY]
            found += self._headers(f"run_id IN ({placeholders(len(some))})", some, f"ORDER BY run_id {self._tx.lock}")
        return found

    def cancelled_of(self, process: str) -> list[RunRow]:
        """Return the headers of the live runs of a process that have a cancel request."""
        return self._headers(f"process = ? AND cancel IS NOT NULL AND status NOT IN {FINAL}", (process,))

    def live(self) -> list[RunRow]:
        """Return the headers of all runs that have not ended and don't wait for a worker."""
        return self._headers(f"status NOT IN {FINAL} AND coalesce(process, '') <> ?", (QUEUED,))

    def unsettled(self) -> list[RunRow]:
        """Return the headers of the runs that have a terminal event and no end."""
        runs, events = self._tx.names.runs, self._tx.names.events  # visits the few live runs, not all events
        has_terminal = f"EXISTS (SELECT 1 FROM {events} WHERE {events}.run_id = {runs}.run_id AND terminal = 1)"
        return self._headers(f"status NOT IN {FINAL} AND {has_terminal}")

    def prunable(self, before: float, what: Literal["events", "runs"], limit: int) -> list[str]:
        """Return ids of runs that ended before a time: of runs with events, or of the roots of ended trees."""
        names, where = self._tx.names, f"r.updated_at < ? AND r.status IN {FINAL}"
        if what == "events":
            where += f" AND EXISTS (SELECT 1 FROM {names.events} e WHERE e.run_id = r.run_id AND e.terminal = 0)"
        else:
            where += f" AND r.parent_run_id IS NULL AND NOT EXISTS (SELECT 1 FROM {names.runs} c"
            where += f" WHERE c.root_run_id = r.run_id AND c.status NOT IN {FINAL})"
        rows = self._tx.rows(f"SELECT r.run_id FROM {names.runs} r WHERE {where} LIMIT ?", (before, limit))
        return [str(row[0]) for row in rows]

    def set_cancel(self, run_id: str, epoch: int, cancel: str) -> bool:
        """Store the cancel request of a live run; return False if the run is not in this epoch."""
        return self._set("cancel", cancel, run_id, epoch, f" AND status NOT IN {FINAL}")

    def set_cancels(self, run_ids: Sequence[str], cancel: str) -> None:
        """Store the same cancel request of many live runs, which are locked."""
        for start in range(0, len(run_ids), MANY):
            some = run_ids[start : start + MANY]
            self._tx.execute(
                f"UPDATE {self._tx.names.runs} SET cancel = ? WHERE run_id IN ({placeholders(len(some))})",
                [cancel, *some],
            )

    def statuses(self, run_ids: Sequence[str]) -> dict[str, str]:
        """Return the statuses of those of these runs that exist."""
        found: dict[str, str] = {}
        for start in range(0, len(run_ids), MANY):
            some = run_ids[start : start + MANY]
            where = f"run_id IN ({placeholders(len(some))})"
            status = f"CASE WHEN cancel IS NOT NULL AND status NOT IN {FINAL} THEN 'CANCELLING' ELSE status END"
            found |= dict(self._tx.rows(f"SELECT run_id, {status} FROM {self._tx.names.runs} WHERE {where}", some))
        return found

    def set_options(self, run_id: str, epoch: int, options: str | None) -> None:
        """Store the limits of a run that is in this epoch."""
        self._set("options", options, run_id, epoch)

    def _set(self, column: str, value: str | None, run_id: str, epoch: int, also: str = "") -> bool:
        statement = f"UPDATE {self._tx.names.runs} SET {column} = ? WHERE run_id = ? AND epoch = ?{also}"
        return self._tx.execute(statement, (value, run_id, epoch)) > 0


@dataclass(slots=True)
class PartStatements:
    """The checkpoints of live runs."""

    _tx: SqlTransaction

    def add(self, row: PartRow, epoch: int | None = None) -> bool:
        """Add a part to a live run in this epoch, or, with None, in any; else drop the part and return False."""
        return self.add_all([(row, epoch)])

    def add_all(self, rows: Sequence[tuple[PartRow, int | None]]) -> bool:
        """Add parts to live runs in their order, as `add` does; return False if any was dropped."""
        return self._tx.add_parts(rows) == len(rows)

    def of_run(self, run_id: str) -> list[PartRow]:
        """Return the parts of a run, the oldest first."""
        query = f"SELECT {PART_COLUMNS} FROM {self._tx.names.parts} WHERE run_id = ? ORDER BY part_id"
        return [PartRow(*row) for row in self._tx.rows(query, (run_id,))]


def _equal(**wanted: str | None) -> tuple[list[str], list[Any]]:
    """Return conditions for the columns that must have these values, and the values. None does not filter."""
    given = {name: value for name, value in wanted.items() if value is not None}
    return [f"{name} = ?" for name in given], list(given.values())


def _conditions(query: RunQuery) -> tuple[list[str], list[Any]]:
    """Return the conditions of a query, and their values."""
    where, values = _equal(session_id=query.session_id, user_id=query.user_id)
    where.append("parent_run_id IS NULL")
    if query.owners is not None:
        where.append(f"(kind, owner_id) IN (VALUES {', '.join(['(?, ?)'] * len(query.owners))})")
        values += [name for owner in sorted(query.owners) for name in owner]
    if query.created_before is not None:
        where.append("created_at < ?")
        values.append(query.created_before)
    if query.after is not None:
        where.append("(created_at, run_id) < (?, ?)")
        values += query.after
    if query.status is not None:
        where.append("status = ?" if query.status.is_final else f"status NOT IN {FINAL}")
        values += [query.status.value] if query.status.is_final else []
    return where, values
