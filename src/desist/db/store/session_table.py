"""`SessionTable`: sessions in tables. Reads are made in the caller's thread, writes by the writer."""

from __future__ import annotations

from concurrent.futures import Future

from desist.db.backends.base import StorageBackend
from desist.db.coordination.claims import claim_session
from desist.db.records.rows import update_session
from desist.db.store.unwritten_ends import UnwrittenEnds
from desist.db.writer import Writer
from desist.run.storage.values import SessionUpdate, StoredSession

__all__ = ["SessionTable"]


class SessionTable:
    """The part of a store that has the sessions."""

    def __init__(self, backend: StorageBackend, writer: Writer, unwritten: UnwrittenEnds) -> None:
        self._backend, self._writer, self._unwritten = backend, writer, unwritten

    def load_session(self, session_id: str, kind: str) -> StoredSession | None:
        """Return a session, or None."""
        with self._backend.reading() as tables:
            found: StoredSession | None = tables.sessions.get(session_id, kind)
            return found

    def save_session(self, session: StoredSession) -> Future[None]:
        """Store a session."""
        return self._writer.put(lambda tables: tables.sessions.put(session))

    def update_session(self, change: SessionUpdate) -> Future[None]:
        """Apply a change to the stored session."""
        return self._writer.put(lambda tables: update_session(tables, change))

    def delete_session(self, session_id: str, kind: str | None = None) -> bool:
        """Delete a session and its runs; return whether any existed."""
        self._unwritten.forget(lambda run: run.session_id == session_id and kind in (None, run.kind))
        gone: Future[bool] = self._writer.put(lambda tables: tables.sessions.delete(session_id, kind))
        return gone.result()

    def list_sessions(
        self,
        *,
        kind: str | None = None,
        owner_id: str | None = None,
        user_id: str | None = None,
        limit: int | None = None,
    ) -> list[StoredSession]:
        """Return the matching sessions, the one that changed last first."""
        with self._backend.reading() as tables:
            return list(tables.sessions.matching(kind, owner_id, user_id, limit))

    def claim_session(self, session: StoredSession) -> set[str | None]:
        """Create a session for its user, if there is none; return the other users of its id. Blocks."""
        return self._writer.put(lambda tables: claim_session(tables, session)).result()
