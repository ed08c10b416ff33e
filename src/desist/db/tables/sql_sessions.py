"""The statements about sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from desist.db.tables.base import placeholders
from desist.db.tables.sql_runs import ALL
from desist.db.tables.sql_transaction import SqlTransaction
from desist.run.records.json_values import dump
from desist.run.storage.values import StoredSession

__all__ = ["SessionStatements"]

_NAMES = ("session_id", "kind", "owner_id", "user_id", "session_data", "metadata", "created_at", "updated_at")
_COLUMNS = ", ".join(_NAMES)
_CHANGES = ", ".join(f"{name} = excluded.{name}" for name in _NAMES[2:])


@dataclass(slots=True)
class SessionStatements:
    """The sessions."""

    _tx: SqlTransaction

    def lock(self, session_id: str) -> None:
        """Keep other transactions from claiming a session of this id, which may not exist yet. Before the lock of an id
        and kind, see `get`.
        """
        self._tx.lock_names([f"{self._tx.names.sessions} {session_id}"])

    def get(self, session_id: str, kind: str) -> StoredSession | None:
        """Return a session. In a transaction of the writer, no other transaction changes or creates the session."""
        where, values = "session_id = ? AND kind = ?", (session_id, kind)
        found = self._select(where, values, self._tx.lock)
        if not found and self._tx.lock:  # there is no row that could be locked
            self._tx.lock_names([f"{self._tx.names.sessions} {kind} {session_id}"])
            found = self._select(where, values, self._tx.lock)
        return found[0] if found else None

    def _select(self, where: str, values: Sequence[Any], rest: str) -> list[StoredSession]:
        rows = self._tx.rows(f"SELECT {_COLUMNS} FROM {self._tx.names.sessions} WHERE {where} {rest}", values)
        found = [dict(zip(_NAMES, row, strict=True)) for row in rows]
        for fields in found:
            fields["session_data"] = msgspec.json.decode(fields["session_data"])
            fields["metadata"] = fields["metadata"] and msgspec.json.decode(fields["metadata"])
        return [StoredSession(**fields) for fields in found]

    def put(self, session: StoredSession) -> None:
        """Store a session."""
        values = [getattr(session, name) for name in _NAMES]
        values[4] = dump(session.session_data).decode()
        values[5] = None if session.metadata is None else dump(session.metadata).decode()
        self._tx.execute(
            f"INSERT INTO {self._tx.names.sessions} ({_COLUMNS}) VALUES ({placeholders(len(_NAMES))})"
            f" ON CONFLICT (session_id, kind) DO UPDATE SET {_CHANGES}",
            values,
        )

    def users(self, session_id: str) -> tuple[set[str | None], set[str | None]]:
        """Return the users of the sessions with this id, of any kind, and the users of its runs."""
        query = "SELECT DISTINCT user_id FROM {} WHERE session_id = ?"
        tables = (self._tx.names.sessions, self._tx.names.runs)
        holders, speakers = ({row[0] for row in self._tx.rows(query.format(table), (session_id,))} for table in tables)
        return holders, speakers

    def delete(self, session_id: str, kind: str | None) -> bool:
        """Delete a session and its runs; return whether any existed."""
        names, also = self._tx.names, "" if kind is None else " AND kind = ?"
        values = (session_id,) if kind is None else (session_id, kind)
        runs = f"SELECT run_id FROM {names.runs} WHERE session_id = ?{also}"
        for table in (names.parts, names.events, names.requirements):
            self._tx.execute(f"DELETE FROM {table} WHERE run_id IN ({runs})", values)
        deleted = [
            self._tx.execute(f"DELETE FROM {table} WHERE session_id = ?{also}", values)
            for table in (names.runs, names.sessions)
        ]
        return sum(deleted) > 0

    def matching(
        self, kind: str | None, owner_id: str | None, user_id: str | None, limit: int | None
    ) -> list[StoredSession]:
        """Return the matching sessions, the one that changed last first."""
        wanted = {"kind": kind, "owner_id": owner_id, "user_id": user_id}
        given = {name: value for name, value in wanted.items() if value is not None}
        where = " AND ".join(f"{name} = ?" for name in given) or "1 = 1"
        values = [*given.values(), ALL if limit is None else limit]
        return self._select(where, values, "ORDER BY updated_at DESC LIMIT ?")
