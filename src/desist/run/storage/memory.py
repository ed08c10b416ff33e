"""`MemoryStore`: the store of a workflow or agent without a `db`, and of `InMemoryDb`."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from desist.cancel.registry import registry
from desist.run.records.state_copy import copy_state
from desist.run.storage.values import PartKind, RunQuery, SessionUpdate, StoredRun, StoredSession, other_users

__all__ = ["MemoryStore"]

_Key = tuple[str, str]


class MemoryStore:
    """Runs and sessions of this process, in memory.

    Parameters:
        keep: how many ended runs, and how many sessions, are kept; the oldest are removed. None: all. Live runs are
            always kept.
    """

    blocking = False

    def __init__(self, keep: int | None = 1000) -> None:
        self._lock = threading.RLock()
        self._live_run: dict[str, StoredRun] = {}
        self._ended: OrderedDict[str, StoredRun] = OrderedDict()
        self._by_session: dict[str, dict[str, None]] = {}  #: ids of runs, in the order of their starts
        self._sessions: OrderedDict[_Key, StoredSession] = OrderedDict()
        self._keep = keep

    # -- runs

    def save_run(self, run: StoredRun) -> None:
        """Store a run."""
        with self._lock:
            if run.session is not None:
                self.update_session(run.session)
            if run.session_id is not None:
                self._by_session.setdefault(run.session_id, {})[run.run_id] = None
            if not run.status.is_final:
                self._ended.pop(run.run_id, None)
                self._live_run[run.run_id] = run
                return
            self._live_run.pop(run.run_id, None)
            self._ended[run.run_id] = run
            while self._keep is not None and len(self._ended) > self._keep:
                self._leave(self._ended.popitem(last=False)[1])

    def add_part(self, run_id: str, kind: PartKind, value: Any, at: Mapping[str, Any] | None = None) -> None:
        """Do nothing: the store has the output object of a live run itself."""

    def load_run(self, run_id: str) -> StoredRun | None:
        """Return a run, or None if there is none."""
        with self._lock:
            return self._live_run.get(run_id) or self._ended.get(run_id)

    def delete_run(self, run_id: str) -> bool:
        """Delete an ended run; return whether it existed."""
        with self._lock:
            run = self._ended.pop(run_id, None)
            if run is not None:
                self._leave(run)
            return run is not None

    def session_runs(
        self,
        session_id: str,
        *,
        kind: str | None = None,
        owner_id: str | None = None,
        limit: int | None = None,
        ended_only: bool = True,
    ) -> list[StoredRun]:
        """Return the last `limit` runs of a session, the oldest first."""
        with self._lock:
            runs = [self.load_run(run_id) for run_id in self._by_session.get(session_id, ())]
        fitting = [
            run
            for run in runs
            if run is not None
            and (kind is None or run.kind == kind)
            and (owner_id is None or run.owner_id == owner_id)
            and (run.status.is_final or not ended_only)
        ]
        return fitting if limit is None else fitting[max(0, len(fitting) - limit) :]

    def list_runs(self, query: RunQuery) -> list[StoredRun]:
        """Return the matching runs, the newest first."""
        with self._lock:
            known = [*self._live_run.values(), *self._ended.values()]
        return query.newest([_with_status(run) for run in known if query.places(run)])

    def _leave(self, run: StoredRun) -> None:
        """Remove a run from the list of its session, and an empty list."""
        runs = self._by_session.get(run.session_id or "")
        if runs is not None:
            runs.pop(run.run_id, None)
            if not runs:
                del self._by_session[run.session_id or ""]

    # -- sessions

    def load_session(self, session_id: str, kind: str) -> StoredSession | None:
        """Return a copy of a session, or None."""
        with self._lock:
            held = self._sessions.get((session_id, kind))
            return _copy(held) if held is not None else None

    def save_session(self, session: StoredSession) -> None:
        """Store a session."""
        with self._lock:
            key = session.session_id, session.kind
            self._sessions[key] = _copy(session)
            self._sessions.move_to_end(key)
            while self._keep is not None and len(self._sessions) > self._keep:
                self._sessions.popitem(last=False)

    def update_session(self, change: SessionUpdate) -> None:
        """Apply a change to the stored session."""
        with self._lock:
            self.save_session(change.apply(self._sessions.get((change.session_id, change.kind))))

    def claim_session(self, session: StoredSession) -> set[str | None]:
        """Create a session for its user, if there is none; return the other users of its id."""
        with self._lock:
            held = {kind: self._sessions.get((session.session_id, kind)) for kind in ("workflow", "agent")}
            session_users = {one.user_id for one in held.values() if one is not None}
            run_users = {run.user_id for run in self.session_runs(session.session_id, ended_only=False)}
            others = other_users(session_users, run_users, session.user_id)
            if not others and held[session.kind] is None:
                self.save_session(session)
            return others

    def reserve_run(self, run: StoredRun) -> bool:
        """Store a run that is about to start here, if there is none with its id."""
        with self._lock:
            free = self.load_run(run.run_id) is None
            if free:
                self.save_run(run)
            return free

    def end_reservation(self, run_id: str) -> None:
        """End a reservation: if the run is not live here, its start has failed, and it is deleted."""
        with self._lock:
            run = self._live_run.get(run_id)
            if run is not None and registry.get(run_id) is None:
                del self._live_run[run_id]
                self._leave(run)

    def delete_session(self, session_id: str, kind: str | None = None) -> bool:
        """Delete a session and its ended runs, of one kind or of all; return whether any existed."""
        with self._lock:
            keys = [key for key in self._sessions if key[0] == session_id and kind in (None, key[1])]
            for key in keys:
                del self._sessions[key]
            runs = [run.run_id for run in self.session_runs(session_id, kind=kind)]
            for run_id in runs:
                self.delete_run(run_id)
            return bool(keys or runs)

    def list_sessions(
        self,
        *,
        kind: str | None = None,
        owner_id: str | None = None,
        user_id: str | None = None,
        limit: int | None = None,
    ) -> list[StoredSession]:
        """Return copies of the matching sessions, the one that changed last first."""
        wanted = (("kind", kind), ("owner_id", owner_id), ("user_id", user_id))
        with self._lock:
            held = sorted(self._sessions.values(), key=lambda session: session.updated_at, reverse=True)
            fitting = [one for one in held if all(value in (None, getattr(one, name)) for name, value in wanted)]
            return [_copy(session) for session in fitting[:limit]]

    def __len__(self) -> int:
        return len(self._live_run) + len(self._ended)


def _with_status(run: StoredRun) -> StoredRun:
    """Return a run with its present status: of a live run only the start was stored."""
    return run if run.status.is_final else replace(run, status=run.output.status)


def _copy(session: StoredSession) -> StoredSession:
    """Return a session that shares nothing with `session`."""
    data, metadata = session.session_data, session.metadata
    return replace(session, session_data=copy_state(data), metadata=None if metadata is None else copy_state(metadata))
