"""`RunStore`: the protocol of a store of runs and sessions. `MemoryStore` is the default.

A run is stored when it starts, and before its end is announced. A store that writes to a disk or network does so in a
writer of its own and returns a future; it never writes inside the task that a cancel interrupts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from desist.exceptions import ConfigurationError
from desist.run.storage.memory import MemoryStore
from desist.run.storage.values import PartKind, RunQuery, SessionUpdate, StoredRun, StoredSession
from desist.runtime.daemon_thread import to_daemon_thread

__all__ = [
    "Database",
    "MemoryStore",
    "PartKind",
    "RunQuery",
    "RunStore",
    "SessionUpdate",
    "StoredRun",
    "StoredSession",
    "read",
    "store_of",
]

T = TypeVar("T")


class RunStore(Protocol):
    """The store of runs and sessions. All methods may be called from any thread.

    Methods that save must not block: they return None when the change is stored, or a future. The future ends when the
    change is durable, and always within a bounded time: with an error if the change is not confirmed by then.
    """

    blocking: bool  #: whether loading may block on a disk or network; async code then loads in a thread

    def save_run(self, run: StoredRun) -> Future[None] | None:
        """Store a run, replacing an earlier record of its id, and apply `run.session` in the same transaction.

        The checkpoints of a run that has ended are deleted.
        """

    def add_part(self, run_id: str, kind: PartKind, value: Any, at: Mapping[str, Any] | None = None) -> None:
        """Store a checkpoint of a live run. Never blocks. A checkpoint after the run's end is dropped.

        Parameters:
            value: of the class that `kind` names. Must not change any more.
            at: of a step, its position.
        """

    def load_run(self, run_id: str) -> StoredRun | None:
        """Return a run, or None if there is none."""

    def delete_run(self, run_id: str) -> bool:
        """Delete a run; return whether it existed."""

    def session_runs(
        self,
        session_id: str,
        *,
        kind: str | None = None,
        owner_id: str | None = None,
        limit: int | None = None,
        ended_only: bool = True,
    ) -> list[StoredRun]:
        """Return the last `limit` runs of a session, the oldest first.

        Parameters:
            kind, owner_id: only runs of this kind, of this workflow or agent. None does not filter.
            ended_only: leave out live runs.
        """

    def list_runs(self, query: RunQuery) -> list[StoredRun]:
        """Return the matching runs, live ones too, the newest first."""

    def load_session(self, session_id: str, kind: str) -> StoredSession | None:
        """Return a session, which the caller may change, or None."""

    def save_session(self, session: StoredSession) -> Future[None] | None:
        """Store a session."""

    def update_session(self, change: SessionUpdate) -> Future[None] | None:
        """Apply a change to the stored session; create the session if there is none."""

    def claim_session(self, session: StoredSession) -> set[str | None]:
        """Create a session for its user, if there is none of any kind with its id; return the other users of that id.

        One conditional write: of two users that claim a new id at the same moment, one gets it, and the call of the
        other returns that user. Blocks.
        """

    def reserve_run(self, run: StoredRun) -> bool:
        """Store a run that is about to start in this process; return False if there is one with its id.

        One conditional write, as above. Blocks. `end_reservation` is called afterwards, in any case.
        """

    def end_reservation(self, run_id: str) -> None:
        """End a reservation: if the run is not live here, its start has failed, and it is deleted."""

    def delete_session(self, session_id: str, kind: str | None = None) -> bool:
        """Delete a session and its runs, of one kind or of all; return whether any existed."""

    def list_sessions(
        self,
        *,
        kind: str | None = None,
        owner_id: str | None = None,
        user_id: str | None = None,
        limit: int | None = None,
    ) -> list[StoredSession]:
        """Return the matching sessions, the one that changed last first."""


class Database(Protocol):
    """A value of `db=`: an object with a store, such as `desist.db.SqliteDb`."""

    @property
    def store(self) -> RunStore:
        """The store of runs and sessions."""


def store_of(db: Database | RunStore, where: str) -> RunStore:
    """Return the store of a value of `db=`: a database of `desist.db`, or a store itself.

    Raises:
        ConfigurationError: the value is neither; the message names `where`.
    """
    store: Any = getattr(db, "store", db)
    if not callable(getattr(store, "save_run", None)):
        raise ConfigurationError(f"db= of {where} must be a database such as SqliteDb(...), not {db!r:.80}")
    found: RunStore = store
    return found


async def read(store: RunStore, work: Callable[[], T]) -> T:
    """Return `work()`, which loads from `store`; in a thread if that may block. A cancel ends the wait at once."""
    return await to_daemon_thread(work, "desist-db-read") if store.blocking else work()
