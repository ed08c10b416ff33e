"""The statements: rows of runs, parts and sessions over one connection. See `desist.db.tables.base`.

They are written so that SQLite and Postgres read them alike; what they don't, a subclass of `SqlTables` says.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

import msgspec

from desist.db.tables.base import FINAL, QUEUED, PartRow, RunRow, Which
from desist.db.tables.sql_events import EventStatements
from desist.db.tables.sql_queue import QueueStatements
from desist.run.records.json_values import dump
from desist.run.storage.values import RunQuery, StoredSession

__all__ = ["SqlTables", "TableNames"]

_RUN = RunRow.__slots__  # the names of the fields, in their order
ALL = 2**63 - 1  #: rows
_TABLES = ("runs", "run_parts", "schema", "owners", "intents", "events", "queue", "workers")
_DAY = 86400.0  #: seconds after which a process that hasn't been heard of is forgotten
_CONTROL = ", ".join(name if name != "output" else "''" for name in _RUN)
_SESSION = ("session_id", "kind", "owner_id", "user_id", "session_data", "metadata", "created_at", "updated_at")


@dataclass(frozen=True, slots=True)
class TableNames:
    """What the tables are called."""

    sessions: str = "desist_sessions"
    runs: str = "desist_runs"
    parts: str = "desist_run_parts"
    schema: str = "desist_schema"
    owners: str = "desist_owners"
    intents: str = "desist_intents"
    events: str = "desist_events"
    queue: str = "desist_queue"
    workers: str = "desist_workers"

    @classmethod
    def after(cls, sessions: str | None) -> TableNames:
        """Return the names for a table of sessions that a program named itself."""
        if sessions is None or sessions == cls.__dataclass_fields__["sessions"].default:
            return cls()
        return cls(sessions, *(f"{sessions}_{what}" for what in _TABLES))

    def as_dict(self) -> dict[str, str]:
        """Return them as the migrations name them."""
        return asdict(self)


class SqlTables(EventStatements, QueueStatements):
    """The tables over one connection, of SQLite."""

    __slots__ = ("_connection", "_names")

    def __init__(self, connection: Any, names: TableNames) -> None:
        self._connection, self._names = connection, names

    # -- what another dialect says otherwise

    lock = ""  #: at the end of a query whose rows nobody may change before the transaction is through
    skip = ""  #: at the end of a query that leaves out what another transaction has locked
    order = "rowid"  #: the column that says which row was made first
    everywhere = False  #: processes of other machines use these tables, too

    def _do(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Execute a statement; return how many rows it changed."""
        return int(self._connection.execute(statement, values).rowcount)

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        return list(self._connection.execute(statement, values).fetchall())

    def now(self) -> float:
        """Return the time that all processes on these tables go by; seconds since the epoch."""
        return time.time()

    def lock_run(self, run_id: str) -> None:
        """Let no other transaction claim or cancel a run of this id that isn't there yet."""

    def assert_locked(self) -> None:
        """Fail if others may have changed what was read. Who holds a file keeps it, frozen or not."""

    def notify_process(self, address: str) -> None:
        """Wake a process when the transaction is through, where tables can do that."""

    # -- runs

    def get_run(self, run_id: str) -> RunRow | None:
        """Return a run."""
        found = self._runs("run_id = ?", [run_id], self.lock)
        return found[0] if found else None

    def _runs(self, where: str, values: list[Any], rest: str = "") -> list[RunRow]:
        rows = self._rows(f"SELECT {', '.join(_RUN)} FROM {self._names.runs} WHERE {where} {rest}", values)
        return [RunRow(*row) for row in rows]

    def put_run(self, row: RunRow) -> None:
        """Write a run, and drop its parts."""
        marks = ", ".join("?" * len(_RUN))
        changes = ", ".join(f"{name} = excluded.{name}" for name in _RUN[1:])
        self._change_run(
            f"INSERT INTO {self._names.runs} ({', '.join(_RUN)}) VALUES ({marks})"
            f" ON CONFLICT (run_id) DO UPDATE SET {changes}",
            astuple(row),
            row.run_id,
        )

    def _change_run(self, statement: str, values: Sequence[Any], run_id: str) -> bool:
        """Change a run, and drop its parts if that was done; return whether it was."""
        done = self._do(statement, values)
        if done:
            self._do(f"DELETE FROM {self._names.parts} WHERE run_id = ?", (run_id,))
        return done > 0

    def end_run(self, row: RunRow) -> bool:
        """Write the end of a run, if it has none and this epoch."""
        return self._change_run(
            f"UPDATE {self._names.runs} SET status = ?, session_id = ?, owner_id = ?, user_id = ?, updated_at = ?,"
            f" output = ? WHERE run_id = ? AND epoch = ? AND status NOT IN {FINAL}",
            (row.status, row.session_id, row.owner_id, row.user_id, row.updated_at, row.output, row.run_id, row.epoch),
            row.run_id,
        )

    def delete_run(self, run_id: str) -> bool:
        """Delete a run, its parts and events."""
        self.delete_events(run_id)
        self._do(f"DELETE FROM {self._names.parts} WHERE run_id = ?", (run_id,))
        return self._do(f"DELETE FROM {self._names.runs} WHERE run_id = ?", (run_id,)) > 0

    def open_runs(self, root_run_id: str) -> list[RunRow]:
        """Return the runs of a tree that have no end."""
        return self._runs(f"root_run_id = ? AND status NOT IN {FINAL}", [root_run_id], f"ORDER BY run_id {self.lock}")

    def children(self, parent_run_id: str) -> list[RunRow]:
        """Return the runs that were started in one."""
        return self._runs("parent_run_id = ?", [parent_run_id], f"ORDER BY created_at, {self.order}")

    def session_runs(
        self, session_id: str, kind: str | None, owner_id: str | None, limit: int | None, which: Which
    ) -> list[RunRow]:
        """Return the last runs of a session, the oldest first."""
        where, values = ["session_id = ?"], [session_id]
        for name, value in (("kind", kind), ("owner_id", owner_id)):
            if value is not None:
                where.append(f"{name} = ?")
                values.append(value)
        if which != "all":
            where.append(f"status {'' if which == 'ended' else 'NOT '}IN {FINAL}")
        newest = f"ORDER BY created_at DESC, {self.order} DESC LIMIT ?"
        rows = self._runs(" AND ".join(where), [*values, ALL if limit is None else limit], newest)
        return rows[::-1]

    def list_runs(self, query: RunQuery) -> list[RunRow]:
        """Return the runs that are meant, the newest first."""
        where, values = _conditions(query)
        limit = None if query.status is not None and not query.status.is_final else query.limit
        newest = "ORDER BY created_at DESC, run_id DESC LIMIT ?"
        return self._runs(" AND ".join(where), [*values, ALL if limit is None else limit], newest)

    # -- what processes tell one another

    def _known(self, where: str, values: Sequence[Any], rest: str = "") -> list[RunRow]:
        rows = self._rows(f"SELECT {_CONTROL} FROM {self._names.runs} WHERE {where} {rest}", values)
        return [RunRow(*row) for row in rows]

    def get_runs(self, run_ids: Sequence[str]) -> list[RunRow]:
        """Return those of these runs that there are."""
        found: list[RunRow] = []
        for start in range(0, len(run_ids), 500):
            some = run_ids[start : start + 500]
            marks = ", ".join("?" * len(some))
            found += self._known(f"run_id IN ({marks})", some, f"ORDER BY run_id {self.lock}")
        return found

    def cancelled_runs_of(self, process: str) -> list[RunRow]:
        """Return the runs of a process that were cancelled and have no end."""
        return self._known(f"process = ? AND cancel IS NOT NULL AND status NOT IN {FINAL}", (process,))

    def open_anywhere(self) -> list[RunRow]:
        """Return all runs that have no end and don't wait for a worker."""
        return self._known(f"status NOT IN {FINAL} AND coalesce(process, '') <> ?", (QUEUED,))

    def unsettled(self) -> list[RunRow]:
        """Return the runs that have a terminal event and no end."""
        runs, events = self._names.runs, self._names.events  # the few that are open are looked at, not all events
        told = f"EXISTS (SELECT 1 FROM {events} WHERE {events}.run_id = {runs}.run_id AND terminal = 1)"
        return self._known(f"status NOT IN {FINAL} AND {told}", ())

    def set_cancel(self, run_id: str, epoch: int, cancel: str) -> bool:
        """Record a request for a run that has no end."""
        done = self._do(
            f"UPDATE {self._names.runs} SET cancel = ? WHERE run_id = ? AND epoch = ? AND status NOT IN {FINAL}",
            (cancel, run_id, epoch),
        )
        return done > 0

    def set_options(self, run_id: str, epoch: int, options: str | None) -> None:
        """Record the limits of a run that this epoch's process works on."""
        self._do(f"UPDATE {self._names.runs} SET options = ? WHERE run_id = ? AND epoch = ?", (options, run_id, epoch))

    def put_intent(self, run_id: str, cancel: str) -> None:
        """Keep a request for a run that isn't known yet."""
        statement = f"INSERT INTO {self._names.intents} VALUES (?, ?, ?) ON CONFLICT (run_id) DO NOTHING"
        self._do(statement, (run_id, cancel, self.now()))

    def take_intent(self, run_id: str, ttl: float) -> str | None:
        """Forget the request for a run that is known now, and those that are older than `ttl` seconds."""
        old = f"SELECT run_id FROM {self._names.intents} WHERE at < ? {self.skip}"
        self._do(f"DELETE FROM {self._names.intents} WHERE run_id IN ({old})", (self.now() - ttl,))
        rows = self._rows(f"DELETE FROM {self._names.intents} WHERE run_id = ? RETURNING cancel", (run_id,))
        return str(rows[0][0]) if rows else None

    def record_heartbeat(self, process: str, address: str, lease: float) -> None:
        """Record that a process lives, for so many seconds."""
        until = self.now() + lease
        still = f"SELECT process FROM {self._names.runs} WHERE process IS NOT NULL AND status NOT IN {FINAL}"
        old = f"SELECT process FROM {self._names.owners} WHERE until < ? AND process NOT IN ({still}) {self.skip}"
        self._do(f"DELETE FROM {self._names.owners} WHERE process IN ({old})", (until - _DAY,))
        put = (
            f"INSERT INTO {self._names.owners} (process, address, until) VALUES (?, ?, ?)"
            " ON CONFLICT (process) DO UPDATE SET address = excluded.address, until = excluded.until"
        )
        self._do(put, (process, address, until))

    def owner(self, process: str) -> tuple[str, float] | None:
        """Return the address of a process, and until when it is believed to live."""
        rows = self._rows(f"SELECT address, until FROM {self._names.owners} WHERE process = ?", (process,))
        return (rows[0][0], rows[0][1]) if rows else None

    def release_owner(self, process: str) -> None:
        """A process has none of these runs any more."""
        self._do(f"DELETE FROM {self._names.owners} WHERE process = ?", (process,))

    # -- parts

    def add_part(self, row: PartRow, epoch: int | None = None) -> bool:
        """Add a part to a run that has no end, in this epoch."""
        done = self._do(
            f"INSERT INTO {self._names.parts} (run_id, kind, at, value) SELECT ?, ?, ?, ? FROM {self._names.runs}"
            f" WHERE run_id = ? AND epoch = coalesce(?, epoch) AND status NOT IN {FINAL} {self.share}",
            (row.run_id, row.kind, row.at, row.value, row.run_id, epoch),
        )
        return done > 0

    def parts(self, run_id: str) -> list[PartRow]:
        """Return the parts of a run, the oldest first."""
        names = self._names
        rows = self._rows(
            f"SELECT run_id, kind, at, value FROM {names.parts} WHERE run_id = ? ORDER BY part_id", (run_id,)
        )
        return [PartRow(*row) for row in rows]

    # -- sessions

    def get_session(self, session_id: str, kind: str) -> StoredSession | None:
        """Return a session."""
        found = self._sessions("session_id = ? AND kind = ?", [session_id, kind], self.lock)
        return found[0] if found else None

    def _sessions(self, where: str, values: list[Any], rest: str = "") -> list[StoredSession]:
        rows = self._rows(f"SELECT {', '.join(_SESSION)} FROM {self._names.sessions} WHERE {where} {rest}", values)
        found = [dict(zip(_SESSION, row, strict=True)) for row in rows]
        for values_of in found:
            values_of["session_data"] = msgspec.json.decode(values_of["session_data"])
            values_of["metadata"] = values_of["metadata"] and msgspec.json.decode(values_of["metadata"])
        return [StoredSession(**values_of) for values_of in found]

    def put_session(self, session: StoredSession) -> None:
        """Write a session."""
        values = [getattr(session, name) for name in _SESSION]
        values[4] = dump(session.session_data).decode()
        values[5] = None if session.metadata is None else dump(session.metadata).decode()
        marks = ", ".join("?" * len(_SESSION))
        changes = ", ".join(f"{name} = excluded.{name}" for name in _SESSION[2:])
        self._do(
            f"INSERT INTO {self._names.sessions} ({', '.join(_SESSION)}) VALUES ({marks})"
            f" ON CONFLICT (session_id, kind) DO UPDATE SET {changes}",
            values,
        )

    def session_users(self, session_id: str) -> tuple[set[str | None], set[str | None]]:
        """Return the users of the sessions with this id, and those of its runs."""
        query = "SELECT DISTINCT user_id FROM {} WHERE session_id = ?"
        tables = (self._names.sessions, self._names.runs)
        holders, speakers = ({row[0] for row in self._rows(query.format(table), [session_id])} for table in tables)
        return holders, speakers

    def lock_session(self, session_id: str) -> None:
        """Let no other transaction claim a session of this id. Who holds a file is alone."""

    def delete_session(self, session_id: str, kind: str | None) -> bool:
        """Delete a session, its runs and their parts."""
        names, also = self._names, "" if kind is None else " AND kind = ?"
        values = (session_id,) if kind is None else (session_id, kind)
        runs = f"SELECT run_id FROM {names.runs} WHERE session_id = ?{also}"
        for table in (names.parts, names.events):
            self._do(f"DELETE FROM {table} WHERE run_id IN ({runs})", values)
        gone = 0
        for table in (names.runs, names.sessions):
            gone += self._do(f"DELETE FROM {table} WHERE session_id = ?{also}", values)
        return gone > 0

    def list_sessions(
        self, kind: str | None, owner_id: str | None, user_id: str | None, limit: int | None
    ) -> list[StoredSession]:
        """Return the sessions that fit, the one that changed last first."""
        wanted = [(n, v) for n, v in (("kind", kind), ("owner_id", owner_id), ("user_id", user_id)) if v is not None]
        where = " AND ".join(f"{name} = ?" for name, _ in wanted) or "1 = 1"
        values = [*(value for _, value in wanted), ALL if limit is None else limit]
        return self._sessions(where, values, "ORDER BY updated_at DESC LIMIT ?")


def _conditions(query: RunQuery) -> tuple[list[str], list[Any]]:
    """Return the conditions that a query sets on rows of runs, and their values."""
    where = ["parent_run_id IS NULL"]
    values: list[Any] = []
    if query.owners is not None:
        where.append(f"(kind, owner_id) IN (VALUES {', '.join(['(?, ?)'] * len(query.owners))})")
        values += [name for owner in sorted(query.owners) for name in owner]
    for condition, value in (
        ("session_id = ?", query.session_id),
        ("user_id = ?", query.user_id),
        ("created_at < ?", query.created_before),
    ):
        if value is not None:
            where.append(condition)
            values.append(value)
    if query.after is not None:
        where.append("(created_at, run_id) < (?, ?)")
        values += query.after
    if query.status is not None:
        where.append("status = ?" if query.status.is_final else f"status NOT IN {FINAL}")
        values += [query.status.value] if query.status.is_final else []
    return where, values
