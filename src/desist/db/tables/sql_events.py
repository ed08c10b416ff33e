"""The statements about the events of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from desist.db.tables.base import FINAL, EventRow, placeholders
from desist.db.tables.sql_runs import ALL
from desist.db.tables.sql_transaction import EVENT_COLUMNS, SqlTransaction

__all__ = ["EventStatements"]


@dataclass(slots=True)
class EventStatements:
    """The events."""

    _tx: SqlTransaction

    def add(self, rows: Sequence[EventRow]) -> bool:
        """Store events of live runs in the epochs that the rows name; return False if a row was dropped.

        Raises:
            ValueError: a terminal event is among them, which is a bug of the caller.
        """
        for row in rows:
            if row.terminal:
                raise ValueError(f"the terminal event of run {row.run_id} may only be stored with the end of the run")
        return self._tx.insert_events(rows, f"r.status NOT IN {FINAL} {self._tx.share}")

    def add_last(self, rows: Sequence[EventRow]) -> bool:
        # The statement itself requires the end, so that a terminal event is stored with the end or not at all.
        """Store the last events of runs, in the transaction that ends those runs.

        This is the only way to store a terminal event. Returns False if a row was dropped: its run has not ended, has
        ended in another epoch, or has a terminal event already.
        """
        has_terminal = f"SELECT 1 FROM {self._tx.names.events} AS e WHERE e.run_id = r.run_id AND e.terminal = 1"
        return self._tx.insert_events(rows, f"r.status IN {FINAL} AND NOT EXISTS ({has_terminal})")

    def _select(self, where: str, values: Sequence[object]) -> list[EventRow]:
        rows = self._tx.rows(f"SELECT {EVENT_COLUMNS} FROM {self._tx.names.events} WHERE {where}", values)
        return [EventRow(*row) for row in rows]

    def terminal(self, run_id: str) -> EventRow | None:
        """Return the terminal event of a run, if it is stored."""
        rows = self._select("run_id = ? AND terminal = 1", (run_id,))
        return rows[0] if rows else None

    def of_run(self, run_id: str, after: int = -1, limit: int | None = None) -> list[EventRow]:
        """Return the rows with the events of a run after the event of that number, the oldest first."""
        where = "run_id = ? AND last_event > ? ORDER BY first_event LIMIT ?"
        return self._select(where, (run_id, after, ALL if limit is None else limit))

    def last(self, run_id: str) -> tuple[int, bool] | None:
        """Return the number of the last event of a run, and whether it is the terminal one; None: there are none."""
        events = self._tx.names.events
        query = f"SELECT last_event, terminal FROM {events} WHERE run_id = ? ORDER BY first_event DESC LIMIT 1"
        rows = self._tx.rows(query, (run_id,))
        return (int(rows[0][0]), bool(rows[0][1])) if rows else None

    def last_of(self, run_ids: Sequence[str]) -> dict[str, int | None]:
        """Return for each of these runs a number that changes with its last event; None if there are none."""
        names = self._tx.names
        last = f"SELECT e.last_event * 2 + e.terminal FROM {names.events} e WHERE e.run_id = r.run_id"
        query = f"SELECT r.run_id, ({last} ORDER BY e.first_event DESC LIMIT 1) FROM {names.runs} r WHERE r.run_id IN"
        return dict(self._tx.rows(f"{query} ({placeholders(len(run_ids))})", run_ids))

    def move_terminal_last(self, run_id: str) -> None:
        """Number the terminal event of a run after all others, if it is not the last one already."""
        last = self.last(run_id)
        if last is not None and not last[1]:
            events, number = self._tx.names.events, last[0] + 1
            statement = f"UPDATE {events} SET first_event = ?, last_event = ? WHERE run_id = ? AND terminal = 1"
            self._tx.execute(statement, (number, number, run_id))

    def delete(self, run_id: str) -> None:
        """Delete the events of a run."""
        self._tx.execute(f"DELETE FROM {self._tx.names.events} WHERE run_id = ?", (run_id,))

    def prune(self, run_ids: Sequence[str]) -> None:
        """Delete the events of these runs, except their terminal events."""
        where = f"run_id IN ({placeholders(len(run_ids))}) AND terminal = 0"
        self._tx.execute(f"DELETE FROM {self._tx.names.events} WHERE {where}", run_ids)
