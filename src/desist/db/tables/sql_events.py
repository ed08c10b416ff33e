"""The statements about what runs have told: a base of `SqlTables`, in the same spirit. See `desist.db.tables.base`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any, Literal

from desist.db.tables.base import FINAL, EventRow

__all__ = ["EVENT", "EventStatements", "refuse_terminal"]

EVENT = ", ".join(EventRow.__slots__)  # the columns
MARKS = ", ".join("?" * len(EventRow.__slots__))


def refuse_terminal(rows: Sequence[EventRow]) -> None:
    """Fail if a terminal event is among events that aren't stored with the end of their run: that is a mistake of ours.

    Raises:
        ValueError: it is.
    """
    for row in rows:
        if row.terminal:
            raise ValueError(f"the terminal event of run {row.run_id} is stored with the end of the run, and only so")


class EventStatements:
    """The events over one connection."""

    __slots__ = ()
    _names: Any

    share = ""  #: at the end of a query whose rows nobody may change before the transaction ends; others may do so, too

    def _do(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Execute a statement; return how many rows it changed."""
        raise NotImplementedError

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        raise NotImplementedError

    def add_events(self, rows: Sequence[EventRow]) -> bool:
        """Add events to runs that have no end, in the epoch that they name; return whether all were."""
        refuse_terminal(rows)
        names = self._names
        statement = (
            f"INSERT INTO {names.events} ({EVENT}) SELECT {MARKS} FROM {names.runs}"
            f" WHERE run_id = ? AND epoch = ? AND status NOT IN {FINAL} {self.share}"
        )
        return sum(self._do(statement, (*astuple(row), row.run_id, row.epoch)) for row in rows) == len(rows)

    def put_last_events(self, rows: Sequence[EventRow]) -> bool:
        """Write the last events of runs whose records have an end in this epoch; return whether all were.

        The statement itself asks for the end, so that a terminal event is stored with it or not at all.
        """
        names = self._names
        statement = (
            f"INSERT INTO {names.events} ({EVENT}) SELECT {MARKS} FROM {names.runs}"
            f" WHERE run_id = ? AND epoch = ? AND status IN {FINAL}"
            f" AND NOT EXISTS (SELECT 1 FROM {names.events} WHERE run_id = ? AND terminal = 1)"
        )
        return sum(self._do(statement, (*astuple(row), row.run_id, row.epoch, row.run_id)) for row in rows) == len(rows)

    def terminal_event(self, run_id: str) -> EventRow | None:
        """Return the terminal event of a run."""
        rows = self._rows(f"SELECT {EVENT} FROM {self._names.events} WHERE run_id = ? AND terminal = 1", (run_id,))
        return EventRow(*rows[0]) if rows else None

    def events(self, run_id: str, after: int = -1, limit: int | None = None) -> list[EventRow]:
        """Return what a run has told after an event."""
        rows = self._rows(
            f"SELECT {EVENT} FROM {self._names.events} WHERE run_id = ? AND last_event > ?"
            " ORDER BY first_event LIMIT ?",
            (run_id, after, 2**63 - 1 if limit is None else limit),
        )
        return [EventRow(*row) for row in rows]

    def last_event(self, run_id: str) -> tuple[int, bool] | None:
        """Return the number of the last event, and whether it is the terminal one."""
        rows = self._rows(
            f"SELECT last_event, terminal FROM {self._names.events} WHERE run_id = ? ORDER BY first_event DESC LIMIT 1",
            (run_id,),
        )
        return (int(rows[0][0]), bool(rows[0][1])) if rows else None

    def put_terminal_last(self, run_id: str) -> None:
        """Give the terminal event of a run the place after all others."""
        last = self.last_event(run_id)
        if last is not None and not last[1]:
            statement = (
                f"UPDATE {self._names.events} SET first_event = ?, last_event = ? WHERE run_id = ? AND terminal = 1"
            )
            self._do(statement, (last[0] + 1, last[0] + 1, run_id))

    def delete_events(self, run_id: str) -> None:
        """Forget what a run has told."""
        self._do(f"DELETE FROM {self._names.events} WHERE run_id = ?", (run_id,))

    def prunable(self, before: float, what: Literal["events", "runs"], limit: int) -> list[str]:
        """Return some runs that ended before a time: those whose events are kept, or roots."""
        names = self._names
        where = f"r.updated_at < ? AND r.status IN {FINAL}"
        if what == "events":
            where += f" AND EXISTS (SELECT 1 FROM {names.events} e WHERE e.run_id = r.run_id AND e.terminal = 0)"
        else:
            where += f" AND r.parent_run_id IS NULL AND NOT EXISTS (SELECT 1 FROM {names.runs} c"
            where += f" WHERE c.root_run_id = r.run_id AND c.status NOT IN {FINAL})"
        rows = self._rows(f"SELECT r.run_id FROM {names.runs} r WHERE {where} LIMIT ?", (before, limit))
        return [str(row[0]) for row in rows]

    def prune_events(self, run_ids: Sequence[str]) -> int:
        """Forget what runs have told, but for their last events."""
        marks = ", ".join("?" * len(run_ids))
        return self._do(f"DELETE FROM {self._names.events} WHERE run_id IN ({marks}) AND terminal = 0", run_ids)
