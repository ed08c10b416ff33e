"""The statements about sessions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from desist.db.tables.base import placeholders
from desist.db.tables.sql_runs import ALL
from desist.db.tables.sql_transaction import SqlTransaction
from desist.run.records.json_values import dump
from desist.run.storage.values import SessionUpdate, StoredSession

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
        self._tx.lock_name(f"{self._tx.names.sessions} {session_id}")

    def get(self, session_id: str, kind: str) -> StoredSession | None:
        """Return a session. In a transaction of the writer, no other transaction changes or creates the session."""
        where, values = "session_id = ? AND kind = ?", (session_id, kind)
        found = self._select(where, values, self._tx.lock)
        if not found and self._tx.lock:  # there is no row that could be locked
            self._tx.lock_name(f"{self._tx.names.sessions} {kind} {session_id}")
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
        self._tx.execute(
            f"INSERT INTO {self._tx.names.sessions} ({_COLUMNS}) VALUES ({placeholders(len(_NAMES))})"
            f" ON CONFLICT (session_id, kind) DO UPDATE SET {_CHANGES}",
            _values(session),
        )

    def add_new(self, sessions: Sequence[StoredSession]) -> set[tuple[str, str]]:
        """Store those of these sessions that don't exist; return their ids and kinds. In the order of both, so that
        transactions wait for each other in one order.
        """
        if not sessions:
            return set()
        ordered = sorted(sessions, key=lambda one: (one.session_id, one.kind))
        values = [value for session in ordered for value in _values(session)]
        rows = ", ".join([f"({placeholders(len(_NAMES))})"] * len(sessions))
        statement = f"INSERT INTO {self._tx.names.sessions} ({_COLUMNS}) VALUES {rows}"
        added = self._tx.rows(
            f"{statement} ON CONFLICT (session_id, kind) DO NOTHING RETURNING session_id, kind", values
        )
        return {(str(session_id), str(kind)) for session_id, kind in added}

    def existing(self, session_ids: Sequence[str]) -> set[str]:
        """Return those of these ids that sessions have."""
        these = f"session_id IN ({placeholders(len(session_ids))})"
        rows = self._tx.rows(f"SELECT session_id FROM {self._tx.names.sessions} WHERE {these}", session_ids)
        return {str(row[0]) for row in rows}

    def touch(self, change: SessionUpdate) -> bool:
        """Store that a session was used by a run that keeps its state; return False if there is no such session."""
        statement = (
            f"UPDATE {self._tx.names.sessions} SET updated_at = ?, owner_id = coalesce(nullif(owner_id, ''), ?),"
            " user_id = coalesce(nullif(user_id, ''), ?), metadata = coalesce(nullif(metadata, '{}'), ?)"
            " WHERE session_id = ? AND kind = ?"
        )
        metadata = None if change.metadata is None else dump(change.metadata).decode()
        values = (time.time(), change.owner_id, change.user_id, metadata, change.session_id, change.kind)
        return self._tx.execute(statement, values) > 0

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


def _values(session: StoredSession) -> list[Any]:
    values = [getattr(session, name) for name in _NAMES]
    values[4] = dump(session.session_data).decode()
    values[5] = None if session.metadata is None else dump(session.metadata).decode()
    return values
