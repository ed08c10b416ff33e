"""The stored sessions and runs of one agent or workflow. `Component` has the public methods."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from desist.run.component.load_session import load_session
from desist.run.outputs.session import Session
from desist.run.records.ids import id_text, require_id
from desist.run.storage.live_run import live_run
from desist.run.storage.store import RunStore, SessionUpdate, StoredRun

__all__ = ["SessionService"]


@dataclass(frozen=True, slots=True)
class SessionService:
    """Reads and changes sessions. All methods may block on a disk."""

    store: RunStore
    kind: str  #: "agent" or "workflow"
    owner_id: str  #: id of the agent or workflow

    def load(self, session_id: str | None, user_id: str | None = None) -> Any:
        """Return a session with the runs of the owner, or None."""
        user_id = id_text(user_id, "user_id")
        return load_session(self.store, session_id, self.kind, user_id, self.owner_id) if session_id else None

    def data(self, session_id: str | None, key: str) -> Any:
        """Return one value of a session's data, or None."""
        stored = self.store.load_session(session_id, self.kind) if session_id else None
        return stored.session_data.get(key) if stored is not None else None

    def run_output(self, run_id: str, session_id: str | None, user_id: str | None) -> Any:
        """Return the output of a run, live or ended, or None; only of this session and user, where they are given."""
        run_id = require_id(run_id, "run_id", may_be_empty=True)
        session_id, user_id = id_text(session_id, "session_id"), id_text(user_id, "user_id")
        live = live_run(run_id)
        if live is not None and live.store is self.store and not live.scope.finalizing:
            found: StoredRun | None = live.snapshot()  # once the run is finalizing, only the store has its true end
        else:
            found = self.store.load_run(run_id)
        if found is None or session_id not in (None, found.session_id) or user_id not in (None, found.user_id):
            return None
        return found.output

    def last_run_output(self, session_id: str | None) -> Any:
        """Return the output of the session's ended run that began last, or None."""
        if session_id is None:
            return None
        runs = self.store.session_runs(session_id, kind=self.kind, owner_id=self.owner_id, limit=1)
        return runs[-1].output if runs else None

    def update(
        self, session_id: str, user_id: str | None, *, state: Mapping[str, Any] | None = None, name: str | None = None
    ) -> None:
        """Set keys of a session's state, or its name. Wait until the change is stored.

        Raises:
            StoreError: the change is not confirmed as stored.
        """
        about: dict[str, Any] = {
            "session_id": session_id,
            "kind": self.kind,
            "owner_id": self.owner_id,
            "user_id": user_id,
        }
        change = SessionUpdate(**about, after=dict(state)) if state is not None else SessionUpdate(**about, name=name)
        _wait(self.store.update_session(change))

    def save(self, session: Session) -> None:
        """Store a session without its runs. Wait until the session is stored.

        Raises:
            StoreError: the session is not confirmed as stored.
        """
        _wait(self.store.save_session(session.to_stored()))

    def delete(self, session_id: str, user_id: str | None, *, kind: str | None) -> bool:
        """Delete a session and its runs of `kind`; None for runs of any kind. Return whether the session existed."""
        session_id = require_id(session_id, "session_id", may_be_empty=True)
        if user_id is not None and self.load(session_id, user_id) is None:
            return False
        return self.store.delete_session(session_id, kind)


def _wait(done: Future[None] | None) -> None:
    if done is not None:
        done.result()  # the store limits the wait
