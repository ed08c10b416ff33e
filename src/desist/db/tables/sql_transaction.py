"""One transaction of a database, in the dialect of that database. The statements in `sql_...` are written on top of it.

They use the words of SQLite and Postgres alike, with `?` as the placeholder. A transaction says what the two databases
do differently. `PostgresTransaction` is in `postgres`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from desist.db.tables.base import FINAL, EventRow, PartRow, RunRow, columns_of, placeholders, values_of_event

__all__ = ["END", "EVENT_COLUMNS", "PART_COLUMNS", "SqlTransaction", "SqliteTransaction", "TableNames"]

EVENT_COLUMNS = columns_of(EventRow)
PART_COLUMNS = columns_of(PartRow)
#: The columns of a run that its end changes.
END = ("status", "session_id", "owner_id", "user_id", "updated_at", "output")
_EVENT_VALUES = placeholders(len(EventRow.__slots__))
_TABLES = (
    "runs",
    "run_parts",
    "schema",
    "owners",
    "intents",
    "events",
    "queue",
    "workers",
    "limits",
    "schedules",
    "requirements",
)


@dataclass(frozen=True, slots=True)
class TableNames:
    """The names of the tables."""

    sessions: str = "desist_sessions"
    runs: str = "desist_runs"
    parts: str = "desist_run_parts"
    schema: str = "desist_schema"
    owners: str = "desist_owners"
    intents: str = "desist_intents"
    events: str = "desist_events"
    queue: str = "desist_queue"
    workers: str = "desist_workers"
    limits: str = "desist_limits"
    schedules: str = "desist_schedules"
    requirements: str = "desist_requirements"

    @classmethod
    def after(cls, sessions: str | None) -> TableNames:
        """Return the names for a table of sessions with this name; None: the default."""
        if sessions is None or sessions == cls.__dataclass_fields__["sessions"].default:
            return cls()
        return cls(sessions, *(f"{sessions}_{what}" for what in _TABLES))

    def as_dict(self) -> dict[str, str]:
        """Return the names by the words that the migrations use."""
        return asdict(self)


class SqlTransaction(Protocol):
    """A transaction for reading or writing. Used by one thread."""

    names: TableNames
    lock: str  #: ends a query whose rows no other transaction may change before this one ends
    share: str  #: the same for the rows of `r`, which other transactions may lock in the same way
    skip: str  #: ends a query that leaves out rows that another transaction has locked
    order: str  #: the column of the runs by which they were created one after the other
    everywhere: bool  #: whether processes on other machines use the tables, too

    def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Execute a statement; return the number of rows that it changed."""

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Execute a statement; return its rows."""

    def now(self) -> float:
        """Return the time of the clock that all processes on these tables use; seconds since the epoch."""

    def lock_names(self, names: Sequence[str], *, shared: bool = False) -> None:
        """Keep other transactions from locking the same names until this one ends: for what has no row yet.

        Parameters:
            shared: others may lock them in the same way.
        """

    def assert_locked(self) -> None:
        """Fail if other transactions may have changed what was read, because this process was frozen since then."""

    def notify(self, address: str) -> None:
        """Notify a process when the transaction is committed, if the database can do that."""

    def change_run(self, statement: str, values: Sequence[Any], run_id: str) -> bool:
        """Execute a statement that changes a run, and delete its parts if it did; return whether it did."""

    def insert_rows(
        self, statement: str, rows: Sequence[Sequence[Any]], rest: str = "", numbers: Sequence[int] = ()
    ) -> None:
        """Execute `INSERT INTO table (columns)`, with rows of text and numbers.

        Parameters:
            numbers: the positions of columns of numbers that may all be None.
        """

    def end_runs(self, rows: Sequence[RunRow]) -> set[str]:
        """Store the ends of live runs in the epochs of the rows, and delete their parts; return which were so."""

    def add_parts(self, rows: Sequence[tuple[PartRow, int | None]]) -> int:
        """Add parts, in their order, to live runs that are in these epochs, or, with None, in any; return how many."""

    def take_pending_cancels(self, run_ids: Sequence[str], ttl: float) -> dict[str, str]:
        """Delete and return the pending cancels of runs; delete all that are older than `ttl` seconds."""

    def insert_events(self, rows: Sequence[EventRow], where: str) -> bool:
        """Insert events of runs that are in the epoch of their rows and fulfil a condition; return whether all did.

        Parameters:
            where: a condition on `r`, the row of the run.
        """


class SqliteTransaction:
    """A transaction of SQLite. A writing one locks the whole file, so rows and names need no locks."""

    __slots__ = ("_connection", "names")

    lock = share = skip = ""
    order = "rowid"
    everywhere = False

    def __init__(self, connection: sqlite3.Connection, names: TableNames) -> None:
        self._connection, self.names = connection, names

    def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        return self._connection.execute(statement, values).rowcount

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()

    def now(self) -> float:
        return time.time()

    def lock_names(self, names: Sequence[str], *, shared: bool = False) -> None:
        """Do nothing: the file is locked."""

    def assert_locked(self) -> None:
        """Do nothing: a frozen process keeps its lock on the file."""

    def notify(self, address: str) -> None:
        """Do nothing: the store notifies after the commit."""

    def change_run(self, statement: str, values: Sequence[Any], run_id: str) -> bool:
        changed = self.execute(statement, values) > 0
        if changed:
            self.execute(f"DELETE FROM {self.names.parts} WHERE run_id = ?", (run_id,))
        return changed

    def insert_rows(
        self, statement: str, rows: Sequence[Sequence[Any]], rest: str = "", numbers: Sequence[int] = ()
    ) -> None:
        self._connection.executemany(f"{statement} VALUES ({placeholders(len(rows[0]))}) {rest}", rows)

    def end_runs(self, rows: Sequence[RunRow]) -> set[str]:
        statement = (
            f"UPDATE {self.names.runs} SET {', '.join(f'{name} = ?' for name in END)}"
            f" WHERE run_id = ? AND epoch = ? AND status NOT IN {FINAL}"
        )
        values = ((row, [getattr(row, name) for name in (*END, "run_id", "epoch")]) for row in rows)
        return {row.run_id for row, some in values if self.change_run(statement, some, row.run_id)}

    def add_parts(self, rows: Sequence[tuple[PartRow, int | None]]) -> int:
        statement = (
            f"INSERT INTO {self.names.parts} ({PART_COLUMNS}) SELECT ?, ?, ?, ? FROM {self.names.runs}"
            f" WHERE run_id = ? AND epoch = coalesce(?, epoch) AND status NOT IN {FINAL}"
        )
        values = ((row.run_id, row.kind, row.at, row.value, row.run_id, epoch) for row, epoch in rows)
        return self._connection.executemany(statement, values).rowcount if rows else 0

    def take_pending_cancels(self, run_ids: Sequence[str], ttl: float) -> dict[str, str]:
        self.execute(f"DELETE FROM {self.names.intents} WHERE at < ?", (self.now() - ttl,))
        mine = (
            f"DELETE FROM {self.names.intents} WHERE run_id IN ({placeholders(len(run_ids))}) RETURNING run_id, cancel"
        )
        return dict(self.rows(mine, run_ids))

    def insert_events(self, rows: Sequence[EventRow], where: str) -> bool:
        statement = (
            f"INSERT INTO {self.names.events} ({EVENT_COLUMNS}) SELECT {_EVENT_VALUES}"
            f" FROM {self.names.runs} AS r WHERE r.run_id = ? AND r.epoch = ? AND {where}"
        )
        return sum(self.execute(statement, (*values_of_event(row), row.run_id, row.epoch)) for row in rows) == len(rows)
