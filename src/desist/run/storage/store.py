"""Where runs and sessions are recorded, seen from below: a protocol. `MemoryStore` is used when no other is given.

A run is saved when it starts and before its end is told ("stored before shown"). A store that writes elsewhere does
so in a writer of its own and returns a future; it never runs inside the task that a cancel interrupts.
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
    """What runs need of a database. All methods may be called from any thread.

    What saves must not block: it returns None when it is done, or a future. The future ends when the change is
    durable, and in any case within a bounded time: with an error, if it isn't known to be durable by then.
    """

    blocking: bool  #: whether what loads may wait for a disk or a network: then it is done beside the loop

    def save_run(self, run: StoredRun) -> Future[None] | None:
        """Record a run, replacing what is known of its id, and apply `run.session` together with it.

        Of a run that has ended the parts are dropped.
        """

    def add_part(self, run_id: str, kind: PartKind, value: Any, at: Mapping[str, Any] | None = None) -> None:
        """Record what has finished while the run goes on. Never waits; what comes after the run's end is dropped.

        Parameters:
            value: of the class that `kind` says. It doesn't change any more.
            at: of a step, where it stands among the others.
        """

    def load_run(self, run_id: str) -> StoredRun | None:
        """Return a run, or None if it isn't known."""

    def delete_run(self, run_id: str) -> bool:
        """Forget a run; return whether it was there."""

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
            kind, owner_id: only those of a kind, of a workflow or agent. None doesn't filter.
            ended_only: leave out those that still run.
        """

    def list_runs(self, query: RunQuery) -> list[StoredRun]:
        """Return the runs that are meant, live ones too, the newest first."""

    def load_session(self, session_id: str, kind: str) -> StoredSession | None:
        """Return a session, which the caller may change, or None."""

    def save_session(self, session: StoredSession) -> Future[None] | None:
        """Record a session as it is given."""

    def update_session(self, change: SessionUpdate) -> Future[None] | None:
        """Apply a change to the session as it is stored then; make the session if there is none."""

    def claim_session(self, session: StoredSession) -> set[str | None]:
        """Make a session for its user, if there is none with its id, of any kind; return the other users of that id.

        One conditional write: of two users that claim one new id at the same moment one gets it, and the other one is
        told whose it is. Blocks.
        """

    def reserve_run(self, run: StoredRun) -> bool:
        """Record a run that is about to start in this process, if there is none with its id; return whether so.

        One conditional write, as above. Blocks. `end_reservation` is called afterwards, in any case.
        """

    def end_reservation(self, run_id: str) -> None:
        """The reserved run is live here now; if it isn't, its start has failed and it is forgotten."""

    def delete_session(self, session_id: str, kind: str | None = None) -> bool:
        """Forget a session and its runs, of one kind or of all; return whether anything was there."""

    def list_sessions(
        self,
        *,
        kind: str | None = None,
        owner_id: str | None = None,
        user_id: str | None = None,
        limit: int | None = None,
    ) -> list[StoredSession]:
        """Return the sessions that fit, the one that changed last first."""


class Database(Protocol):
    """What programs give as `db=`: something with a store behind it, such as `desist.db.SqliteDb`."""

    @property
    def store(self) -> RunStore:
        """Where runs and sessions are recorded."""


def store_of(db: Database | RunStore, where: str) -> RunStore:
    """Return the store behind what a program gave as `db=`: a database of `desist.db`, or a store itself.

    Raises:
        ConfigurationError: it is neither; the message names `where`.
    """
    store: Any = getattr(db, "store", db)
    if not callable(getattr(store, "save_run", None)):
        raise ConfigurationError(f"db= of {where} must be a database such as SqliteDb(...), not {db!r:.80}")
    found: RunStore = store
    return found


async def read(store: RunStore, work: Callable[[], T]) -> T:
    """Return `work()`, which loads from `store`: beside the loop if that may block. A cancel leaves it at once."""
    return await to_daemon_thread(work, "desist-db-read") if store.blocking else work()
