"""The sessions of an agent or workflow: looking at them and changing them from a program.

The base of `Agent` and `Workflow`. All methods may wait for a disk; each has an awaitable form, which is the same code
run beside the loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, ClassVar

from desist.cancel.registry import registry
from desist.exceptions import ConfigurationError
from desist.run.component.awaitable import awaitable
from desist.run.component.load_session import load_session
from desist.run.execution.run import new_id
from desist.run.outputs.session import Session
from desist.run.records.metrics import RunMetrics
from desist.run.storage.store import RunStore, SessionUpdate

__all__ = ["SessionMethods"]


class SessionMethods:
    """What agents and workflows can say about their sessions.

    Where `session_id` is None: the one that the agent or workflow was given, else that of its last run.
    """

    _kind: ClassVar[str]
    id: str
    user_id: str | None
    session_id: str | None
    _own_session: str | None = None  #: of an object with a database and without a `session_id`
    _last_session: str | None = None

    @property
    def store(self) -> RunStore:
        """Where runs and sessions are recorded."""
        raise NotImplementedError

    # -- for runs that begin

    def _session_for(self, session_id: str | None, *, lasting: bool) -> tuple[str, bool]:
        """Return the id of the session of a new run, and whether the session begins with it.

        Parameters:
            given: what the program said, if it did.
            lasting: whether runs that don't say share one session. Else each has its own.
        """
        new, known = False, session_id or self.session_id
        if known is None:
            made = new_id()
            known = self.__dict__.setdefault("_own_session", made) if lasting else made
            new = known == made
        self._last_session = known
        return known, new

    def _resolve_session_id(self, session_id: str | None) -> str | None:
        return session_id or self.session_id or self._own_session or self._last_session

    def _require_session_id(self, session_id: str | None) -> str:
        known = self._resolve_session_id(session_id)
        if known is None:
            raise ConfigurationError(f"{self!r} has no session yet: give session_id=, or run it first")
        return known

    # -- looking

    def get_session(self, session_id: str | None = None, user_id: str | None = None) -> Any:
        """Return a session with the runs of this agent or workflow in it, or None.

        Parameters:
            user_id: only if the session is this user's, or nobody's.
        """
        known = self._resolve_session_id(session_id)
        return load_session(self.store, known, self._kind, user_id, self.id) if known is not None else None

    def get_session_state(self, session_id: str | None = None) -> dict[str, Any]:
        """Return the state as the last ended run, or `update_session_state`, left it; {} where there is none.

        Changing the dict changes nothing: see `update_session_state`.
        """
        known = self._resolve_session_id(session_id)
        held = self.store.load_session(known, self._kind) if known is not None else None
        state: dict[str, Any] = (held.session_data.get("session_state") if held is not None else None) or {}
        return state

    def get_session_name(self, session_id: str | None = None) -> str | None:
        """Return how the session was called, or None."""
        known = self._resolve_session_id(session_id)
        held = self.store.load_session(known, self._kind) if known is not None else None
        return held.session_data.get("session_name") if held is not None else None

    def get_session_metrics(self, session_id: str | None = None) -> RunMetrics | None:
        """Return what all runs of a session used together, or None if there is none."""
        session = self.get_session(session_id)
        return session.metrics() if session is not None else None

    def get_run_output(self, run_id: str, session_id: str | None = None, user_id: str | None = None) -> Any:
        """Return what is recorded of a run, live or ended, or None.

        Parameters:
            session_id, user_id: only if the run is of this session, of this user.
        """
        live: Any = registry.get(run_id)
        if live is not None and live.store is self.store and not live.scope.finalizing:
            found = live.snapshot()  # its end is told by the store only
        else:
            found = self.store.load_run(run_id)
        if found is None or session_id not in (None, found.session_id) or user_id not in (None, found.user_id):
            return None
        return found.output

    def get_last_run_output(self, session_id: str | None = None) -> Any:
        """Return the output of the run of a session that began last and has ended, or None."""
        known = self._resolve_session_id(session_id)
        if known is None:
            return None
        runs = self.store.session_runs(known, kind=self._kind, owner_id=self.id, limit=1)
        return runs[-1].output if runs else None

    # -- changing

    def update_session_state(self, updates: Mapping[str, Any], session_id: str | None = None) -> dict[str, Any]:
        """Set keys of a session's state, and return the state. A run that goes on has its own copy, and keeps it.

        Raises:
            StoreError: it isn't known to be stored.
        """
        known = self._require_session_id(session_id)
        self._change(SessionUpdate(**self._named(known), after=dict(updates)))
        return self.get_session_state(known)

    def set_session_name(self, session_id: str | None = None, *, session_name: str) -> Any:
        """Give a session a name, and return the session.

        Raises:
            StoreError: it isn't known to be stored.
        """
        known = self._require_session_id(session_id)
        self._change(SessionUpdate(**self._named(known), name=session_name))
        return self.get_session(known)

    def save_session(self, session: Session) -> None:
        """Store a session as it is given, without its runs, which are stored by themselves.

        Raises:
            StoreError: it isn't known to be stored.
        """
        _wait(self.store.save_session(session.to_stored()))

    def delete_session(self, session_id: str, user_id: str | None = None) -> bool:
        """Delete a session and its runs; return whether it was there. A run that goes on records its own end.

        Parameters:
            user_id: only if the session is this user's, or nobody's.
        """
        if user_id is not None and self.get_session(session_id, user_id) is None:
            return False
        return self.store.delete_session(session_id, self._deleted_kind())

    def _deleted_kind(self) -> str | None:
        return self._kind

    def _named(self, session_id: str) -> dict[str, Any]:
        return {"session_id": session_id, "kind": self._kind, "owner_id": self.id, "user_id": self.user_id}

    def _change(self, change: SessionUpdate) -> None:
        _wait(self.store.update_session(change))

    # -- the same for async code

    aget_session = awaitable(get_session)
    aget_session_state = awaitable(get_session_state)
    aget_session_name = awaitable(get_session_name)
    aget_session_metrics = awaitable(get_session_metrics)
    aget_run_output = awaitable(get_run_output)
    aget_last_run_output = awaitable(get_last_run_output)
    aupdate_session_state = awaitable(update_session_state)
    aset_session_name = awaitable(set_session_name)
    asave_session = awaitable(save_session)
    adelete_session = awaitable(delete_session)


def _wait(done: Future[None] | None) -> None:
    if done is not None:
        done.result()  # the store bounds it
