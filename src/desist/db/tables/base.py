"""The rows of a database, and the tables that a store needs: `SqlTables` for SQLite and Postgres, `JsonTables`.

A row is flat: ids, times and JSON text. `desist.db.records` and `desist.db.events` encode and decode the text. Tables
exist for one transaction or one read. They have a part for each kind of rows; no part knows the others.

What only a database that processes share needs is in the classes of `desist.db.tables.sql`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from desist.run.storage.values import RunQuery, StoredSession

__all__ = ["FINAL", "QUEUED", "EventRow", "PartRow", "QueuedRow", "RunRow", "Tables", "Which", "WorkerRow"]

#: Runs of a session: ended ones, live ones, or both.
Which = Literal["ended", "open", "all"]
#: The statuses of a run that has ended.
FINAL = ("CANCELLED", "COMPLETED", "ERROR", "REGENERATED")
#: The process of a run that waits for a worker. No real process has this name: theirs have four fields.
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
    output: str  #: JSON; "" in a header
    epoch: int = 0  #: increased by each claim; a process with an older epoch may not write
    cancel: str | None = None  #: JSON: the cancel request. The run will end cancelled, whatever happens
    resumable: int = 0  #: 1: if its process dies, its workflow resumes the run in another process
    options: str | None = None  #: JSON: its limits

    @property
    def is_final(self) -> bool:
        """Whether the run has ended."""
        return self.status in FINAL


@dataclass(slots=True)
class PartRow:
    """A checkpoint of a live run."""

    run_id: str
    kind: str
    at: str | None  #: JSON: the position of a step
    value: str  #: JSON


@dataclass(slots=True)
class EventRow:
    """Consecutive events of one stream. The fields are the columns, in their order."""

    run_id: str  #: of the run that has the stream
    first_event: int
    last_event: int
    epoch: int
    terminal: int  #: 1: the last event of the stream, alone in its row
    body: str = ""  #: JSON, in rows of an older version
    packed: bytes | None = None  #: JSON lines, compressed; None in rows of an older version


@dataclass(frozen=True, slots=True)
class QueuedRow:
    """A run that was submitted. The fields are the columns, in their order."""

    run_id: str
    owner_id: str  #: of its workflow
    options: str  #: JSON: the options that it was submitted with
    sent: int  #: how often it was sent to the engine; 0 or less: it is to be sent
    at: float  #: when it was submitted; seconds since the epoch
    sent_at: float | None = None  #: when it was last sent to the engine


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker. The fields are the columns, in their order."""

    process: str
    workflows: list[str]  #: the ids of its workflows
    until: float  #: the end of its lease; seconds since the epoch


class Runs(Protocol):
    """The runs."""

    def lock(self, run_id: str) -> None:
        """Keep other transactions from claiming or cancelling a run of this id, which may not exist yet."""

    def get(self, run_id: str) -> RunRow | None:
        """Return a run."""

    def put(self, row: RunRow) -> None:
        """Store a run, replacing an earlier one of its id, and delete its parts."""

    def delete(self, run_id: str) -> bool:
        """Delete a run, its parts and its events; return whether the run existed."""

    def open_in_tree(self, root_run_id: str) -> list[RunRow]:
        """Return the runs of a tree that have not ended."""

    def children(self, parent_run_id: str) -> list[RunRow]:
        """Return the runs that were started in a run, the oldest first."""

    def of_session(
        self, session_id: str, kind: str | None, owner_id: str | None, limit: int | None, which: Which
    ) -> list[RunRow]:
        """Return the last runs of a session, the oldest first."""

    def matching(self, query: RunQuery) -> list[RunRow]:
        """Return the matching runs, the newest first; all live runs match, whatever their status and the limit."""


class Parts(Protocol):
    """The checkpoints of live runs."""

    def add(self, row: PartRow, epoch: int | None = None) -> bool:
        """Add a part to a live run in this epoch, or, with None, in any; else drop the part and return False."""

    def of_run(self, run_id: str) -> list[PartRow]:
        """Return the parts of a run, the oldest first."""


class Sessions(Protocol):
    """The sessions."""

    def lock(self, session_id: str) -> None:
        """Keep other transactions from claiming a session of this id, which may not exist yet."""

    def get(self, session_id: str, kind: str) -> StoredSession | None:
        """Return a session. In a transaction of the writer, no other transaction changes or creates the session."""

    def put(self, session: StoredSession) -> None:
        """Store a session."""

    def users(self, session_id: str) -> tuple[set[str | None], set[str | None]]:
        """Return the users of the sessions with this id, of any kind, and the users of its runs."""

    def delete(self, session_id: str, kind: str | None) -> bool:
        """Delete a session and its runs; return whether any existed."""

    def matching(
        self, kind: str | None, owner_id: str | None, user_id: str | None, limit: int | None
    ) -> list[StoredSession]:
        """Return the matching sessions, the one that changed last first."""


class Events(Protocol):
    """The events of runs."""

    def of_run(self, run_id: str, after: int = -1, limit: int | None = None) -> list[EventRow]:
        """Return the rows with the events of a run after the event of that number, the oldest first."""

    def add_last(self, rows: Sequence[EventRow]) -> bool:
        """Store the last events of runs, in the transaction that ends those runs.

        This is the only way to store a terminal event. Returns False if a row was dropped: its run has not ended, has
        ended in another epoch, or has a terminal event already.
        """

    def terminal(self, run_id: str) -> EventRow | None:
        """Return the terminal event of a run, if it is stored."""

    def move_terminal_last(self, run_id: str) -> None:
        """Number the terminal event of a run after all others, if it is not the last one already."""


class Owners(Protocol):
    """The processes that own runs."""

    def get(self, process: str) -> tuple[str, float] | None:
        """Return the address of a process and the end of its lease, or None if it has recorded neither."""


class Tables(Protocol):
    """The tables of any database. `SqlTables` has more methods and parts, for databases that processes share."""

    everywhere: bool  #: whether processes on other machines use the tables, too

    @property
    def runs(self) -> Runs:
        """The runs."""

    @property
    def parts(self) -> Parts:
        """The checkpoints of live runs."""

    @property
    def sessions(self) -> Sessions:
        """The sessions."""

    @property
    def events(self) -> Events:
        """The events of runs."""

    @property
    def owners(self) -> Owners:
        """The processes that own runs."""

    def now(self) -> float:
        """Return the time of the clock that all processes on these tables use; seconds since the epoch."""


def placeholders(count: int) -> str:
    """Return so many placeholders for values, as SQL."""
    return ", ".join("?" * count)


def columns_of(row: Any) -> str:
    """Return the columns of a class of rows, as SQL."""
    return ", ".join(row.__slots__)
