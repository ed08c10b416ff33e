"""What a store needs of whatever holds its records: rows in, rows out. SQLite and JSON files each have their own.

A row is flat: ids, times and JSON text. What the text means is known in `codec` and `table_store`, not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from desist.db.migrations.report import SchemaReport
from desist.db.writer import Backend
from desist.run.storage.values import RunQuery, StoredSession

__all__ = [
    "FINAL",
    "QUEUED",
    "ChangeDetector",
    "EventRow",
    "PartRow",
    "RunRow",
    "SharedBackend",
    "SharedTables",
    "StorageBackend",
    "Tables",
    "Which",
]

#: Runs of a session: those that have an end, those that have none, or both.
Which = Literal["ended", "open", "all"]
#: Statuses that a run doesn't leave.
FINAL = ("CANCELLED", "COMPLETED", "ERROR", "REGENERATED")
#: The process of a run that waits for a worker. No process is called so: theirs have four parts.
QUEUED = "queue"


@dataclass(slots=True)
class RunRow:
    """A run. The fields are the columns, in their order."""

    run_id: str
    kind: str
    status: str
    session_id: str | None
    owner_id: str | None
    user_id: str | None
    root_run_id: str
    parent_run_id: str | None
    process: str | None
    created_at: float
    updated_at: float
    output: str  #: JSON
    epoch: int = 0  #: raised whenever another one takes the run; who has an older one may not write
    cancel: str | None = None  #: JSON: the request. Its run ends cancelled, whatever comes
    resumable: int = 0  #: 1: when its process has died, its workflow goes on with it elsewhere
    options: str | None = None  #: JSON: its limits

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.status in FINAL


@dataclass(slots=True)
class PartRow:
    """What had finished in a run that goes on."""

    run_id: str
    kind: str
    at: str | None  #: JSON: where a step stands
    value: str  #: JSON


@dataclass(slots=True)
class EventRow:
    """Events that a run has told, one after the other. The fields are the columns, in their order."""

    run_id: str  #: of the run in whose stream they are
    first_event: int
    last_event: int
    epoch: int
    terminal: int  #: 1: it is the last event of the stream, alone in its row
    body: str = ""  #: JSON, in rows of an older version
    packed: bytes | None = None  #: JSON lines, compressed; None in rows of an older version


class Tables(Protocol):
    """The records, for as long as one transaction or one look lasts."""

    everywhere: bool  #: processes of other machines use them, too

    def get_run(self, run_id: str) -> RunRow | None:
        """Return a run."""

    def put_run(self, row: RunRow) -> None:
        """Write a run in the place of what is known of its id, and drop its parts."""

    def delete_run(self, run_id: str) -> bool:
        """Delete a run and its parts; return whether it was there."""

    def open_runs(self, root_run_id: str) -> list[RunRow]:
        """Return the runs of a tree that have no end."""

    def children(self, parent_run_id: str) -> list[RunRow]:
        """Return the runs that were started in one, the oldest first."""

    def session_runs(
        self, session_id: str, kind: str | None, owner_id: str | None, limit: int | None, which: Which
    ) -> list[RunRow]:
        """Return the last runs of a session, the oldest first."""

    def list_runs(self, query: RunQuery) -> list[RunRow]:
        """Return the runs that are meant, the newest first; of those without an end all, whatever their status."""

    def add_part(self, row: PartRow, epoch: int | None = None) -> bool:
        """Add a part to a run that has no end, in this epoch or in any; else drop it, and return False."""

    def parts(self, run_id: str) -> list[PartRow]:
        """Return the parts of a run, the oldest first."""

    def events(self, run_id: str, after: int = -1, limit: int | None = None) -> list[EventRow]:
        """Return what a run has told after the event of that number, the oldest first."""

    def put_last_events(self, rows: Sequence[EventRow]) -> bool:
        """Write the last events of runs that have ended in this epoch, in the transaction that ends them.

        The only way to store a terminal event. Return False if one had to be dropped: its run has no end, has one in
        another epoch, or has a terminal event already.
        """

    def terminal_event(self, run_id: str) -> EventRow | None:
        """Return the terminal event of a run, if it is stored."""

    def put_terminal_last(self, run_id: str) -> None:
        """Give the terminal event of a run the place after all others, if it hasn't that already."""

    def owner(self, process: str) -> tuple[str, float] | None:
        """Return the address of a process, and until when it is believed to live; None if it doesn't say so."""

    def now(self) -> float:
        """Return the time that all processes on these tables go by; seconds since the epoch."""

    def get_session(self, session_id: str, kind: str) -> StoredSession | None:
        """Return a session."""

    def put_session(self, session: StoredSession) -> None:
        """Write a session."""

    def session_users(self, session_id: str) -> tuple[set[str | None], set[str | None]]:
        """Return the users of the sessions with this id, of any kind, and those of its runs."""

    def lock_session(self, session_id: str) -> None:
        """Let no other transaction claim a session of this id."""

    def lock_run(self, run_id: str) -> None:
        """Let no other transaction claim or cancel a run of this id that isn't there yet."""

    def delete_session(self, session_id: str, kind: str | None) -> bool:
        """Delete a session, its runs and their parts; return whether anything was there."""

    def list_sessions(
        self, kind: str | None, owner_id: str | None, user_id: str | None, limit: int | None
    ) -> Sequence[StoredSession]:
        """Return the sessions that fit, the one that changed last first."""


class SharedTables(Tables, Protocol):
    """The records of runs that several processes may stop. In a transaction no other process changes what was read."""

    def end_run(self, row: RunRow) -> bool:
        """Write the end of a run that has none, and drop its parts; return False if its epoch is another one."""

    def get_runs(self, run_ids: Sequence[str]) -> list[RunRow]:
        """Return those of these runs that there are, without their outputs."""

    def add_events(self, rows: Sequence[EventRow]) -> bool:
        """Add events to runs that have no end, in the epoch that they name; return False if some had to be dropped.

        Raises:
            ValueError: a terminal event is among them.
        """

    def last_event(self, run_id: str) -> tuple[int, bool] | None:
        """Return the number of the last event of a run, and whether it is the terminal one; None if there is none."""

    def delete_events(self, run_id: str) -> None:
        """Forget what a run has told."""

    def prunable(self, before: float, what: Literal["events", "runs"], limit: int) -> list[str]:
        """Return some ids: of runs that ended before a time and whose events are kept; or of roots of such trees."""

    def prune_events(self, run_ids: Sequence[str]) -> int:
        """Forget what these runs have told, but for their last events; return how many rows that were."""

    def cancelled_runs_of(self, process: str) -> list[RunRow]:
        """Return the runs of a process that were cancelled and have no end, without their outputs."""

    def open_anywhere(self) -> list[RunRow]:
        """Return all runs that have no end and don't wait for a worker, without their outputs."""

    def unsettled(self) -> list[RunRow]:
        """Return the runs that have a terminal event and no end, without their outputs."""

    def set_cancel(self, run_id: str, epoch: int, cancel: str) -> bool:
        """Record a request for a run that has no end; return False if its epoch is another one."""

    def set_options(self, run_id: str, epoch: int, options: str | None) -> None:
        """Record the limits of a run that this epoch's process works on."""

    def put_intent(self, run_id: str, cancel: str) -> None:
        """Keep a request for a run that isn't known yet. The first one stays."""

    def take_intent(self, run_id: str, ttl: float) -> str | None:
        """Forget the request for a run that is known now, and return it; forget those older than `ttl` seconds."""

    def record_heartbeat(self, process: str, address: str, lease: float) -> None:
        """Record that a process lives, how it is woken, and for how many seconds it is believed to live."""

    def assert_locked(self) -> None:
        """Fail if others may have changed what was read: this process may have been frozen since then."""

    def notify_process(self, address: str) -> None:
        """Wake a process when the transaction is through, where tables can do that."""

    def release_owner(self, process: str) -> None:
        """A process has none of these runs any more."""


class StorageBackend(Backend, Protocol):
    """Where tables are: a file, a folder."""

    def reading(self) -> AbstractContextManager[Any]:
        """Return the tables for one look, from any thread.

        Raises:
            StoreError: they can't be read.
        """

    def close(self) -> None:
        """Let go of everything that reading needs."""


class ChangeDetector(Protocol):
    """Whether others may have written. Asked in one thread only, now and then."""

    every: float  #: seconds between two questions

    def seen(self) -> bool:
        """Return whether something may have changed since the last time."""

    def close(self) -> None:
        """Let go of what asking needs."""


class SharedBackend(StorageBackend, Protocol):
    """Where tables are that several processes use."""

    @property
    def poll_interval(self) -> float:
        """Seconds between two looks that nobody asked for."""

    def reading_shared(self) -> AbstractContextManager[Any]:
        """Return the tables for a look that is made again soon: as `reading`, but it waits for nobody."""

    def report(self) -> SchemaReport:
        """Look the tables over."""

    def upgrade(self) -> SchemaReport:
        """Bring them to what this version needs, and look them over."""

    def changes(self) -> ChangeDetector:
        """Return something to ask, for as long as somebody follows a run of another process.

        Raises:
            StoreError: the tables can't be read.
        """

    @property
    def address(self) -> str:
        """How this process is woken; "" if it can't be."""

    def listen(self) -> None:
        """Begin to hear when this process is woken, if that hasn't begun."""

    def wake(self, address: str) -> None:
        """Wake a process, now that what it is to look at is durable."""
