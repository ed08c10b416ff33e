"""`BaseDb` and `AsyncBaseDb`: the methods that every database offers to programs, on top of its store.

Agents and workflows use the store itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Concatenate, Literal, ParamSpec, Self, TypeVar

from desist.cancel.receipt import CancelReceipt
from desist.db.events.pages import events_from_output
from desist.db.migrations.report import SchemaReport
from desist.db.store.pruning import PruneResult
from desist.exceptions import ConfigurationError
from desist.run.cancel import cancel
from desist.run.component.load_session import load_session
from desist.run.events.base import RunStatus
from desist.run.execution.follow import follow_ended, follow_in_process, follow_shared
from desist.run.options.strict import reject_unknown_options
from desist.run.outputs.session import Session
from desist.run.outputs.workflow import WorkflowRunOutput
from desist.run.records.ids import id_text, require_id
from desist.run.storage.shared_store import shared_store
from desist.run.storage.store import RunStore
from desist.run.storage.values import SessionUpdate, StoredRun
from desist.runtime.daemon_thread import to_daemon_thread
from desist.streams.follower import Follower
from desist.streams.reader import AsyncReader, SyncReader

__all__ = ["AsyncBaseDb", "BaseDb", "in_thread", "opened"]

P = ParamSpec("P")
T = TypeVar("T")
D = TypeVar("D", bound="BaseDb")
_KINDS = ("workflow", "agent")


@reject_unknown_options
class BaseDb:
    """A database of sessions and runs. Pass it to an agent or workflow as `db=`.

    A session type is "workflow" or "agent"; None stands for both, a workflow's first. All methods may be called from
    any thread. They wait for the disk, and raise `StoreError` if it fails.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store

    @property
    def store(self) -> RunStore:
        """The store of agents and workflows."""
        return self._store

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the database itself: copies of agents and workflows share it."""
        return self

    def __reduce__(self) -> Any:
        raise TypeError(f"{type(self).__name__} can't be pickled: its runs are in the memory of this process")

    # -- sessions

    def get_session(self, session_id: str, session_type: str | None = None, user_id: str | None = None) -> Any:
        """Return an `AgentSession` or `WorkflowSession` with its runs, or None."""
        session_id, user_id = require_id(session_id, "session_id", may_be_empty=True), id_text(user_id, "user_id")
        for kind in _kinds(session_type):
            found = load_session(self.store, session_id, kind, user_id)
            if found is not None:
                return found
        return None

    def get_sessions(
        self,
        session_type: str | None = None,
        user_id: str | None = None,
        component_id: str | None = None,
        limit: int | None = None,
    ) -> list[Any]:
        """Return the matching sessions with their runs, the one that changed last first.

        Parameters:
            component_id: only sessions that this agent or workflow created.
        """
        _kinds(session_type)
        user_id, component_id = id_text(user_id, "user_id"), id_text(component_id, "component_id")
        held = self.store.list_sessions(kind=session_type, owner_id=component_id, user_id=user_id, limit=limit)
        found = [load_session(self.store, one.session_id, one.kind) for one in held]
        return [session for session in found if session is not None]

    def upsert_session(self, session: Session) -> Any:
        """Store a session without its runs (see `upsert_run`); return the session."""
        stored = session.to_stored()
        stored.session_id = require_id(session.session_id, "session_id", may_be_empty=True)
        stored.user_id = id_text(session.user_id, "user_id")
        stored.updated_at = time.time()
        _wait(self.store.save_session(stored))
        return session

    def rename_session(self, session_id: str, session_name: str, session_type: str | None = None) -> Any:
        """Name a session and return it; return None if there is none."""
        session = self.get_session(session_id, session_type)
        if session is None:
            return None
        change = SessionUpdate(
            session_id=session.session_id,
            kind=session.kind,
            owner_id=session.owner_id,
            user_id=session.user_id,
            name=session_name,
        )
        _wait(self.store.update_session(change))
        session.session_data["session_name"] = session_name
        return session

    def delete_session(self, session_id: str, session_type: str | None = None) -> bool:
        """Delete a session and its runs, of one type or of all; return whether any existed."""
        _kinds(session_type)
        return self.store.delete_session(require_id(session_id, "session_id", may_be_empty=True), session_type)

    # -- runs

    def upsert_run(self, run: Any) -> None:
        """Store a run (`RunOutput` or `WorkflowRunOutput`), replacing an earlier record of its id."""
        run_id = require_id(run.run_id, "run_id", may_be_empty=True)
        kind = "workflow" if isinstance(run, WorkflowRunOutput) else "agent"
        stored = StoredRun(
            run_id=run_id,
            kind=kind,
            status=run.status,
            output=run,
            root_run_id=id_text(run.parent_run_id, "parent_run_id") or run_id,
            parent_run_id=id_text(run.parent_run_id, "parent_run_id"),
            session_id=id_text(run.session_id, "session_id"),
            owner_id=run.workflow_id if kind == "workflow" else run.agent_id,
            user_id=id_text(run.user_id, "user_id"),
            created_at=run.created_at,
        )
        _wait(self.store.save_run(stored))

    def get_run(self, run_id: str) -> Any:
        """Return the output of a run, or None."""
        found = self.store.load_run(require_id(run_id, "run_id", may_be_empty=True))
        return found.output if found is not None else None

    def get_runs(
        self,
        session_id: str,
        session_type: str | None = None,
        status: RunStatus | None = None,
        limit: int | None = None,
    ) -> list[Any]:
        """Return the outputs of the last runs of a session, the oldest first; live runs too."""
        session_id = require_id(session_id, "session_id", may_be_empty=True)
        for kind in _kinds(session_type):
            runs = self.store.session_runs(session_id, kind=kind, ended_only=False)
            outputs = [run.output for run in runs if status in (None, run.status)]
            if runs:
                return outputs if limit is None else outputs[max(0, len(outputs) - limit) :]
        return []

    def delete_run(self, run_id: str) -> bool:
        """Delete a run; return whether it existed."""
        return self.store.delete_run(require_id(run_id, "run_id", may_be_empty=True))

    def cancel(
        self,
        run_id: str,
        *,
        reason: str | None = None,
        by: str | None = None,
        grace: float | None = None,
        force: bool = False,
        scope: Literal["tree", "run"] = "tree",
        compensate: bool = False,
    ) -> CancelReceipt:
        """Cancel a run that is stored here, of any process. See `desist.run.cancel.cancel`."""
        how = {"reason": reason, "by": by, "grace": grace, "force": force, "compensate": compensate}
        return cancel(run_id, scope=scope, db=self, **how)  # type: ignore[arg-type]  # one dict, several types

    # -- following

    def follow(self, run_id: str, last_event_index: int | None = None) -> SyncReader[Any]:
        """Return an iterator over the events of a run that is stored here, of any process, until the run ends.

        Leaving the iterator, by `break`, `close()` or otherwise, does not stop the run. A database that processes don't
        share has only the last event.

        Parameters:
            last_event_index: the `event_index` of the last event that was received; the iterator begins after it.

        Raises:
            ConfigurationError: there is no such run, or it is live and this database has none of its events.
        """
        follower = self._follower(run_id, last_event_index)
        follower.begin()
        return SyncReader(follower)

    def _follower(self, run_id: str, last_event_index: int | None) -> Follower[Any]:
        run_id = require_id(run_id, "run_id", may_be_empty=True)
        shared = shared_store(self.store)
        if shared is not None:
            return follow_shared(shared, run_id, last_event_index)
        known = follow_in_process(run_id, last_event_index)
        if known is not None:
            return known
        output = self.get_run(run_id)
        if output is None or not output.status.is_final:
            what = "there is no run" if output is None else "this database has no events of the run"
            raise ConfigurationError(f"{what} {run_id!r}")
        return follow_ended(run_id, events_from_output(output, -1), last_event_index)

    # -- maintenance

    def check(self) -> SchemaReport:
        """Check the database, and return its problems; nothing is changed. Takes long for a large database.

        Raises:
            StoreError: the database can't be read.
        """
        return SchemaReport(type(self).__name__)

    def upgrade(self) -> SchemaReport:
        """Bring the tables to the version that this desist needs, and check them. Opening has done that already."""
        return self.check()

    def prune(self, older_than: float, *, runs: bool = False) -> PruneResult:
        """Delete the events of runs that ended more than so many seconds ago; return how many.

        The records of these runs stay, and their last events, for followers. Live runs are not changed. The file does
        not become smaller: its free space is used again.

        Parameters:
            older_than: seconds since the end of a run.
            runs: delete the runs, too, in whole trees that have ended. Sessions stay, without these runs.

        Raises:
            ConfigurationError: `older_than` is negative, or this database can't delete `runs` by age.
            StoreError: the database can't be written.
        """
        if older_than < 0:
            raise ConfigurationError(f"older_than={older_than} must not be negative: it is an age in seconds")
        prune = getattr(self.store, "prune", None)
        if prune is not None:
            pruned: PruneResult = prune(older_than, runs=runs)
            return pruned
        if runs:
            raise ConfigurationError(
                f"{type(self).__name__} can't delete runs by age: use delete_run or delete_session"
            )
        return PruneResult()  # events are not stored

    def flush(self) -> None:
        """Wait until all pending writes are done."""

    def close(self) -> None:
        """Do the pending writes, and release threads and files. Also done when the interpreter exits."""


def opened(kind: Any, arguments: dict[str, Any]) -> Any:
    """Return a pickled database, opened again."""
    return kind(**arguments)


def _kinds(session_type: str | None) -> tuple[str, ...]:
    if session_type is None:
        return _KINDS
    if session_type not in _KINDS:
        raise ConfigurationError(f"session_type={session_type!r} must be one of {', '.join(_KINDS)}, or None")
    return (str(getattr(session_type, "value", session_type)),)


def _wait(done: Future[None] | None) -> None:
    if done is not None:
        done.result()  # ends in time: the store bounds it


def in_thread(
    method: Callable[Concatenate[D, P], T],
) -> Callable[Concatenate[AsyncBaseDb, P], Coroutine[Any, Any, T]]:
    """Return an async method that calls a method of the wrapped database in a thread."""

    async def call(self: AsyncBaseDb, /, *args: P.args, **kwargs: P.kwargs) -> T:
        bound: Callable[P, T] = getattr(self._db, method.__name__)  # of its own class, which may override the method
        return await to_daemon_thread(lambda: bound(*args, **kwargs), "desist-db-call")

    call.__name__ = call.__qualname__ = method.__name__
    call.__doc__ = method.__doc__
    return call


@reject_unknown_options
class AsyncBaseDb:
    """A database with async methods. They run in threads; a cancelled await ends at once."""

    def __init__(self, db: BaseDb) -> None:
        self._db = db

    @property
    def store(self) -> RunStore:
        """The store of agents and workflows."""
        return self._db.store

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the database itself."""
        return self

    def __reduce__(self) -> Any:
        _, (_, arguments) = self._db.__reduce__()
        return opened, (type(self), arguments)

    def afollow(self, run_id: str, last_event_index: int | None = None) -> AsyncReader[Any]:
        """Return an async iterator over the events of a run; see `BaseDb.follow`. Called without await.

        The iterator raises `ConfigurationError` if there is no such run.
        """
        return AsyncReader(self._db._follower(run_id, last_event_index))

    get_session = in_thread(BaseDb.get_session)
    get_sessions = in_thread(BaseDb.get_sessions)
    upsert_session = in_thread(BaseDb.upsert_session)
    rename_session = in_thread(BaseDb.rename_session)
    delete_session = in_thread(BaseDb.delete_session)
    upsert_run = in_thread(BaseDb.upsert_run)
    get_run = in_thread(BaseDb.get_run)
    get_runs = in_thread(BaseDb.get_runs)
    delete_run = in_thread(BaseDb.delete_run)
    cancel = in_thread(BaseDb.cancel)
    check = in_thread(BaseDb.check)
    upgrade = in_thread(BaseDb.upgrade)
    prune = in_thread(BaseDb.prune)
    flush = in_thread(BaseDb.flush)
    close = in_thread(BaseDb.close)
