"""What Postgres says otherwise than `desist.db.tables.sql`: marks, locks, the server's clock, calls to other processes.

`PostgresTables` are for a look, `PostgresWriteTables` for a transaction. What two transactions compete for is locked in
the
same order everywhere: an id, its run, then its session.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from desist.db.tables.base import FINAL, EventRow
from desist.db.tables.sql import SqlTables, TableNames
from desist.db.tables.sql_events import EVENT, MARKS, refuse_terminal
from desist.run.storage.values import StoredSession

__all__ = ["FROZEN", "PostgresTables", "PostgresWriteTables"]

#: What processes are called by here.
ADDRESS = re.compile("desist_[0-9a-f]{20}")
#: Seconds that a transaction may be silent before the server ends it.
FROZEN = 2.0
#: Rows of events that go into one statement.
MANY = 500
#: One of them. The type of a column of VALUES is that of its first row, and NULL has none.
_EVENT_MARKS = f"({MARKS[:-1]}CAST(? AS BYTEA))"


class PostgresTables(SqlTables):
    """The tables for one look."""

    __slots__ = ("_now",)

    order = "row_no"
    everywhere = True

    def __init__(self, connection: Any, names: TableNames) -> None:
        super().__init__(connection, names)
        self._now: float | None = None

    def _do(self, statement: str, values: Sequence[Any] = ()) -> int:
        return int(self._connection.execute(_marked(statement), [_encode_value(value) for value in values]).rowcount)

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        rows = self._connection.execute(_marked(statement), [_encode_value(value) for value in values]).fetchall()
        return [tuple(map(_decode_value, row)) for row in rows]

    def now(self) -> float:
        """Return the server's time when this was first asked: all machines go by that."""
        if self._now is None:
            self._now = float(self._rows("SELECT extract(epoch FROM clock_timestamp())")[0][0])
        return self._now


class PostgresWriteTables(PostgresTables):
    """The tables for one transaction."""

    __slots__ = ("_began", "_calls")

    lock = "FOR UPDATE"
    share = "FOR SHARE"  # a run whose part is being added can't change hands before it is
    skip = "FOR UPDATE SKIP LOCKED"

    def __init__(self, connection: Any, names: TableNames) -> None:
        super().__init__(connection, names)
        self._began = time.monotonic()
        self._calls: list[str] = []

    def assert_locked(self) -> None:
        """Fail if the server has ended this transaction, because this process was frozen in it."""
        if time.monotonic() - self._began > FROZEN / 4:
            self._rows("SELECT 1")

    def add_events(self, rows: Sequence[EventRow]) -> bool:
        """Add events of many runs in one statement.

        Not with `executemany`: its last message tells the server to flush, and a server that reads that forgets how
        long a transaction may be silent. A process that is frozen then would hold its locks for ever.
        """
        refuse_terminal(rows)
        return self._insert_events(rows, f"r.status NOT IN {FINAL} {self.share} OF r")

    def put_last_events(self, rows: Sequence[EventRow]) -> bool:
        """Write the last events of runs that have ended in this transaction, in one statement."""
        told = f"SELECT 1 FROM {self._names.events} AS e WHERE e.run_id = v.run_id AND e.terminal = 1"
        return self._insert_events(rows, f"r.status IN {FINAL} AND NOT EXISTS ({told})")

    def _insert_events(self, rows: Sequence[EventRow], where: str) -> bool:
        """Insert events of runs in the epoch that they name; return whether all were."""
        done = 0
        for start in range(0, len(rows), MANY):
            some = rows[start : start + MANY]
            marks = ", ".join([_EVENT_MARKS] * len(some))
            done += self._do(
                f"INSERT INTO {self._names.events} ({EVENT}) SELECT v.* FROM (VALUES {marks}) AS v ({EVENT})"
                f" JOIN {self._names.runs} AS r ON r.run_id = v.run_id AND r.epoch = v.epoch WHERE {where}",
                [value for row in some for value in astuple(row)],
            )
        return done == len(rows)

    def lock_run(self, run_id: str) -> None:
        """Let no other transaction claim or cancel a run of this id that isn't there yet."""
        self._lock_name(f"{self._names.runs} {run_id}")

    def lock_session(self, session_id: str) -> None:
        """Let no other transaction claim a session of this id. Before the lock of its kind, see `get_session`."""
        self._lock_name(f"{self._names.sessions} {session_id}")

    def _lock_name(self, name: str) -> None:
        """Lock what has no row yet, until the transaction is through. Names that share a number only wait in vain."""
        self._rows("SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", (name,))

    def notify_process(self, address: str) -> None:
        """Wake a process when the transaction is through."""
        if ADDRESS.fullmatch(address):
            self._calls.append(address)

    @property
    def end(self) -> str:
        """What ends the transaction and wakes those who were called, in one message."""
        return "".join(f"NOTIFY {address}; " for address in dict.fromkeys(self._calls)) + "COMMIT"

    def _change_run(self, statement: str, values: Sequence[Any], run_id: str) -> bool:
        """Change a run and drop its parts, in one statement. The run is locked: no part comes meanwhile."""
        gone = f"DELETE FROM {self._names.parts} WHERE run_id IN (SELECT run_id FROM changed)"
        both = f"WITH changed AS ({statement} RETURNING run_id), gone AS ({gone}) SELECT count(*) FROM changed"
        return bool(self._rows(both, values)[0][0])

    def take_intent(self, run_id: str, ttl: float) -> str | None:
        """Forget a request, and old ones, in one statement."""
        intents, young = self._names.intents, "at >= extract(epoch FROM clock_timestamp()) - ?"
        old = f"SELECT run_id FROM {intents} WHERE NOT {young} AND run_id <> ? {self.skip}"
        rows = self._rows(
            f"WITH old AS (DELETE FROM {intents} WHERE run_id IN ({old})),"
            f" mine AS (DELETE FROM {intents} WHERE run_id = ? RETURNING cancel, at)"
            f" SELECT cancel FROM mine WHERE {young}",
            (ttl, run_id, run_id, ttl),
        )
        return str(rows[0][0]) if rows else None

    def get_session(self, session_id: str, kind: str) -> StoredSession | None:
        """Return a session that no other transaction changes, or makes, before this one is through."""
        found = super().get_session(session_id, kind)
        if found is None:
            self._lock_name(f"{self._names.sessions} {kind} {session_id}")
            found = super().get_session(session_id, kind)
        return found


def _encode_value(value: Any) -> Any:
    """Return a value as the server keeps it: its text has no NUL, which ids of programs may have (JSON has none)."""
    if isinstance(value, str) and ("\0" in value or "\1" in value):
        return value.replace("\1", "\1b").replace("\0", "\1a")
    return value


def _decode_value(value: Any) -> Any:
    """Return a value as the program gave it."""
    if isinstance(value, str) and "\1" in value:
        return value.replace("\1a", "\0").replace("\1b", "\1")
    return value


@functools.lru_cache(maxsize=256)
def _marked(statement: str) -> bytes:
    """Return a statement with psycopg's marks for values. None of ours has a question mark or per cent sign else."""
    return statement.replace("?", "%s").encode()
