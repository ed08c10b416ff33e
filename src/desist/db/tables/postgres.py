"""`PostgresTransaction`: the dialect of Postgres, its locks, the clock of the server, notifications.

What two transactions compete for is locked in the same order everywhere: an id, its run, then its session.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from desist.db.tables.base import (
    FINAL,
    EventRow,
    PartRow,
    QueueState,
    RunRow,
    placeholders,
    values_of_event,
    values_of_part,
)
from desist.db.tables.sql_transaction import END, EVENT_COLUMNS, PART_COLUMNS, TableNames

if TYPE_CHECKING:
    import psycopg

__all__ = ["FROZEN", "PostgresTransaction"]

#: The addresses of processes.
ADDRESS = re.compile("desist_[0-9a-f]{20}")
#: Seconds that a transaction may be silent before the server ends it.
FROZEN = 2.0
#: The maximum of rows of events in one statement.
MANY = 500
#: One of these rows. The type of a column of VALUES is that of its first row, and NULL has no type.
_EVENT_VALUES = f"({placeholders(len(EventRow.__slots__) - 1)}, CAST(? AS BYTEA))"


class PostgresTransaction:
    """A transaction of Postgres.

    Parameters:
        writing: whether rows that are read are locked.
    """

    __slots__ = ("_addresses", "_began", "_connection", "_now", "lock", "names", "share", "skip")

    order = "row_no"
    everywhere = True

    def __init__(self, connection: psycopg.Connection[Any], names: TableNames, *, writing: bool) -> None:
        self._connection, self.names = connection, names
        self.lock = "FOR UPDATE" if writing else ""
        self.share = "FOR SHARE OF r" if writing else ""  # a run can't change hands while a part is added
        self.skip = "FOR UPDATE SKIP LOCKED" if writing else ""
        self._began = time.monotonic()
        self._now: float | None = None
        self._addresses: list[str] = []

    def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        return self._connection.execute(_with_placeholders(statement), list(map(_encode_value, values))).rowcount

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        found = self._connection.execute(_with_placeholders(statement), list(map(_encode_value, values))).fetchall()
        return [tuple(map(_decode_value, row)) for row in found]

    def now(self) -> float:
        """Return the time of the server at the first call: the clocks of the machines may differ."""
        if self._now is None:
            self._now = float(self.rows("SELECT extract(epoch FROM clock_timestamp())")[0][0])
        return self._now

    def lock_names(self, names: Sequence[str], *, shared: bool = False) -> None:
        """Lock names by their hashes. Two names with one hash wait for each other, without harm."""
        lock = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
        self.rows(f"SELECT {lock}(hashtextextended(name, 0)) FROM unnest(%b::text[]) AS n (name)", (names,))

    def assert_locked(self) -> None:
        """Fail if the server has ended this transaction, because this process was frozen in it."""
        if time.monotonic() - self._began > FROZEN / 4:
            self.rows("SELECT 1")

    def notify(self, address: str) -> None:
        if ADDRESS.fullmatch(address):
            self._addresses.append(address)

    @property
    def end(self) -> str:
        """The statements that commit the transaction and notify processes, to be sent as one message."""
        return "".join(f"NOTIFY {address}; " for address in dict.fromkeys(self._addresses)) + "COMMIT"

    def change_run(self, statement: str, values: Sequence[Any], run_id: str) -> bool:
        """Do both in one statement. The run is locked, so no part is added in between."""
        deleted = f"DELETE FROM {self.names.parts} WHERE run_id IN (SELECT run_id FROM changed)"
        both = f"WITH changed AS ({statement} RETURNING run_id), gone AS ({deleted}) SELECT count(*) FROM changed"
        return bool(self.rows(both, values)[0][0])

    def insert_rows(
        self, statement: str, rows: Sequence[Sequence[Any]], rest: str = "", numbers: Sequence[int] = ()
    ) -> None:
        columns = list(zip(*rows, strict=True))
        types = ["float8" if number in numbers else _type_of(column) for number, column in enumerate(columns)]
        self.execute(f"{statement} SELECT * FROM {_unnest(types)} {rest}", columns)

    def end_runs(self, rows: Sequence[RunRow]) -> set[str]:
        """Do all in one statement. The runs are locked, so no part is added in between."""
        columns = [[getattr(row, name) for row in rows] for name in (*END, "run_id", "epoch")]
        ending = f"{_unnest(_types(columns))} AS v ({', '.join(END)}, run_id, epoch)"
        gone = f"DELETE FROM {self.names.parts} WHERE run_id IN (SELECT run_id FROM changed)"
        found = self.rows(
            f"WITH changed AS (UPDATE {self.names.runs} AS r SET {', '.join(f'{name} = v.{name}' for name in END)}"
            f" FROM {ending} WHERE r.run_id = v.run_id AND r.epoch = v.epoch AND r.status NOT IN {FINAL}"
            f" RETURNING r.run_id), gone AS ({gone}) SELECT run_id FROM changed",
            columns,
        )
        return {row[0] for row in found}

    def add_parts(self, rows: Sequence[tuple[PartRow, int | None]]) -> int:
        """Add all in one statement, which numbers the parts in their order."""
        if not rows:
            return 0
        columns = list(
            zip(*((*values_of_part(row), -1 if epoch is None else epoch) for row, epoch in rows), strict=True)
        )
        names = self.names
        return self.execute(
            f"INSERT INTO {names.parts} ({PART_COLUMNS}) SELECT v.run_id, v.kind, v.at, v.value"
            f" FROM {_unnest(_types(columns))} WITH ORDINALITY AS v ({PART_COLUMNS}, epoch, no) JOIN {names.runs} AS r"
            f" ON r.run_id = v.run_id AND v.epoch IN (r.epoch, -1) AND r.status NOT IN {FINAL}"
            f" ORDER BY v.no {self.share}",
            columns,
        )

    def take_pending_cancels(self, run_ids: Sequence[str], ttl: float) -> dict[str, str]:
        """Do both in one statement."""
        intents, young = self.names.intents, "at >= extract(epoch FROM clock_timestamp()) - ?"
        old = f"SELECT run_id FROM {intents} WHERE NOT {young} AND run_id <> ALL(%b::text[]) {self.skip}"
        rows = self.rows(
            f"WITH old AS (DELETE FROM {intents} WHERE run_id IN ({old})),"
            f" mine AS (DELETE FROM {intents} WHERE run_id = ANY(%b::text[]) RETURNING run_id, cancel, at)"
            f" SELECT run_id, cancel FROM mine WHERE {young}",
            (ttl, run_ids, run_ids, ttl),
        )
        return dict(rows)

    def insert_events(self, rows: Sequence[EventRow], where: str) -> bool:
        """Insert the events of many runs in one statement.

        Not with `executemany`: its last message tells the server to flush, and a server that reads that forgets how
        long a transaction may be silent. A process that is frozen then would hold its locks for ever.
        """
        inserted = 0
        for start in range(0, len(rows), MANY):
            some = rows[start : start + MANY]
            values = ", ".join([_EVENT_VALUES] * len(some))
            inserted += self.execute(
                f"INSERT INTO {self.names.events} ({EVENT_COLUMNS})"
                f" SELECT v.* FROM (VALUES {values}) AS v ({EVENT_COLUMNS})"
                f" JOIN {self.names.runs} AS r ON r.run_id = v.run_id AND r.epoch = v.epoch WHERE {where}",
                [value for row in some for value in values_of_event(row)],
            )
        return inserted == len(rows)


def _unnest(types: Sequence[str]) -> str:
    """Return rows as SQL, to be given by columns: a statement is the same, and planned once, for any number of rows."""
    return f"unnest({', '.join(f'%b::{name}[]' for name in types)})"


def _types(columns: Sequence[Sequence[Any]]) -> list[str]:
    return [_type_of(column) for column in columns]


def _type_of(column: Sequence[Any]) -> str:
    known = {type(value) for value in column}
    return "float8" if float in known else "int8" if known & {int, bool, QueueState} else "text"


def _encode_value(value: Any) -> Any:
    """Return a value without NUL, which text of the server can't have. Ids of programs may have it; JSON has none."""
    if isinstance(value, list | tuple):
        return list(map(_encode_value, value))
    if isinstance(value, str) and ("\0" in value or "\1" in value):
        return value.replace("\1", "\1b").replace("\0", "\1a")
    return value


def _decode_value(value: Any) -> Any:
    if isinstance(value, str) and "\1" in value:
        return value.replace("\1a", "\0").replace("\1b", "\1")
    return value


@functools.lru_cache(maxsize=256)
def _with_placeholders(statement: str) -> bytes:
    """Return a statement with the placeholders of psycopg. Ours have no other question marks, and no per cent signs."""
    return statement.replace("?", "%s").encode()
