"""The statements: rows of runs, parts and sessions in SQLite, over one connection. See `desist.db.tables`."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from desist.db.tables import FINAL, PartRow, RunRow, Which
from desist.run.plain import dump
from desist.run.stored import RunQuery, StoredSession

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["Names", "SqliteTables"]

_RUN = RunRow.__slots__  # the names of the fields, in their order
_SESSION = ("session_id", "kind", "owner_id", "user_id", "session_data", "metadata", "created_at", "updated_at")


@dataclass(frozen=True, slots=True)
class Names:
    """What the tables are called."""

    sessions: str = "desist_sessions"
    runs: str = "desist_runs"
    parts: str = "desist_run_parts"
    schema: str = "desist_schema"

    @classmethod
    def after(cls, sessions: str | None) -> Names:
        """Return the names for a table of sessions that a program named itself."""
        if sessions is None or sessions == cls.__dataclass_fields__["sessions"].default:
            return cls()
        return cls(sessions, f"{sessions}_runs", f"{sessions}_run_parts", f"{sessions}_schema")

    def as_dict(self) -> dict[str, str]:
        """Return them as the migrations name them."""
        return {"sessions": self.sessions, "runs": self.runs, "parts": self.parts}


class SqliteTables:
    """The tables over one connection."""

    __slots__ = ("_connection", "_names")

    def __init__(self, connection: Connection, names: Names) -> None:
        self._connection, self._names = connection, names

    def _rows(self, statement: str, values: Any = ()) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()

    # -- runs

    def get_run(self, run_id: str) -> RunRow | None:
        """Return a run."""
        found = self._runs("run_id = ?", [run_id])
        return found[0] if found else None

    def _runs(self, where: str, values: list[Any], rest: str = "") -> list[RunRow]:
        rows = self._rows(f"SELECT {', '.join(_RUN)} FROM {self._names.runs} WHERE {where} {rest}", values)
        return [RunRow(*row) for row in rows]

    def put_run(self, row: RunRow) -> None:
        """Write a run, and drop its parts."""
        marks = ", ".join("?" * len(_RUN))
        changes = ", ".join(f"{name} = excluded.{name}" for name in _RUN[1:])
        self._connection.execute(
            f"INSERT INTO {self._names.runs} ({', '.join(_RUN)}) VALUES ({marks})"
            f" ON CONFLICT (run_id) DO UPDATE SET {changes}",
            astuple(row),
        )
        self._connection.execute(f"DELETE FROM {self._names.parts} WHERE run_id = ?", (row.run_id,))

    def delete_run(self, run_id: str) -> bool:
        """Delete a run and its parts."""
        self._connection.execute(f"DELETE FROM {self._names.parts} WHERE run_id = ?", (run_id,))
        return self._connection.execute(f"DELETE FROM {self._names.runs} WHERE run_id = ?", (run_id,)).rowcount > 0

    def open_runs(self, root_run_id: str) -> list[RunRow]:
        """Return the runs of a tree that have no end."""
        return self._runs(f"root_run_id = ? AND status NOT IN {FINAL}", [root_run_id])

    def children(self, parent_run_id: str) -> list[RunRow]:
        """Return the runs that were started in one."""
        return self._runs("parent_run_id = ?", [parent_run_id], "ORDER BY created_at, rowid")

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
        newest = "ORDER BY created_at DESC, rowid DESC LIMIT ?"
        rows = self._runs(" AND ".join(where), [*values, -1 if limit is None else limit], newest)
        return rows[::-1]

    def list_runs(self, query: RunQuery) -> list[RunRow]:
        """Return the runs that are meant, the newest first."""
        where, values = _conditions(query)
        limit = None if query.status is not None and not query.status.is_final else query.limit
        newest = "ORDER BY created_at DESC, run_id DESC LIMIT ?"
        return self._runs(" AND ".join(where), [*values, -1 if limit is None else limit], newest)

    # -- parts

    def add_part(self, row: PartRow) -> None:
        """Add a part to a run that has no end."""
        self._connection.execute(
            f"INSERT INTO {self._names.parts} (run_id, kind, at, value) SELECT ?, ?, ?, ?"
            f" WHERE EXISTS (SELECT 1 FROM {self._names.runs} WHERE run_id = ? AND status NOT IN {FINAL})",
            (row.run_id, row.kind, row.at, row.value, row.run_id),
        )

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
        found = self._sessions("session_id = ? AND kind = ?", [session_id, kind])
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
        self._connection.execute(
            f"REPLACE INTO {self._names.sessions} ({', '.join(_SESSION)}) VALUES ({marks})", values
        )

    def delete_session(self, session_id: str, kind: str | None) -> bool:
        """Delete a session, its runs and their parts."""
        names, also = self._names, "" if kind is None else " AND kind = ?"
        values = (session_id,) if kind is None else (session_id, kind)
        runs = f"SELECT run_id FROM {names.runs} WHERE session_id = ?{also}"
        self._connection.execute(f"DELETE FROM {names.parts} WHERE run_id IN ({runs})", values)
        gone = 0
        for table in (names.runs, names.sessions):
            gone += self._connection.execute(f"DELETE FROM {table} WHERE session_id = ?{also}", values).rowcount
        return gone > 0

    def list_sessions(
        self, kind: str | None, owner_id: str | None, user_id: str | None, limit: int | None
    ) -> list[StoredSession]:
        """Return the sessions that fit, the one that changed last first."""
        wanted = [(n, v) for n, v in (("kind", kind), ("owner_id", owner_id), ("user_id", user_id)) if v is not None]
        where = " AND ".join(f"{name} = ?" for name, _ in wanted) or "1"
        values = [*(value for _, value in wanted), -1 if limit is None else limit]
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
