"""The rows of a database. A row is flat: ids, times and JSON text, which `desist.db.records` and `desist.db.events`
encode and decode.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from operator import attrgetter
from typing import Any, Literal

__all__ = [
    "FINAL",
    "QUEUED",
    "EventRow",
    "LimitRow",
    "PartRow",
    "QueueState",
    "QueuedRow",
    "RunRow",
    "ScheduleRow",
    "Which",
    "WorkerRow",
    "columns_of",
    "placeholders",
    "values_of_event",
    "values_of_part",
    "values_of_run",
]

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


class QueueState(IntEnum):
    """What a row of the queue waits for."""

    ready = 0  #: a worker
    claimed = 1  #: the end of its run: a worker has it
    scheduled = 2  #: its time
    held = 3  #: the end of another run with its key


@dataclass(slots=True)
class QueuedRow:
    """A run that was submitted, until its end. The fields are the columns, in their order."""

    run_id: str
    owner_id: str  #: of its workflow
    options: str  #: JSON: the options that it was submitted with
    at: float  #: when it was submitted; seconds since the epoch
    state: int = QueueState.ready
    priority: int = 0  #: runs with a higher one are claimed first
    due_at: float | None = None  #: it is claimed no sooner; seconds since the epoch
    concurrency_key: str | None = None  #: so many runs with one key are live as the limit of its workflow says
    dedup_key: str | None = None  #: one run with one key waits; None once it is claimed
    submitter: str | None = None  #: address of the process to notify of the end


@dataclass(frozen=True, slots=True)
class LimitRow:
    """The limits of a workflow on all workers. The fields are the columns, in their order."""

    owner_id: str
    runs: int | None = None  #: the maximum of live runs; None: no limit
    per_key: int | None = None  #: the maximum of live runs with one concurrency key; None: 1
    paused: int = 0  #: 1: no more runs are claimed


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A run that is submitted periodically. The fields are the columns, in their order."""

    name: str
    owner_id: str
    cron: str
    timezone: str
    request: str  #: JSON: the input and the options
    next_at: float  #: seconds since the epoch


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker. The fields are the columns, in their order."""

    process: str
    workflows: list[str]  #: the ids of its workflows
    until: float  #: the end of its lease; seconds since the epoch
    address: str = ""  #: where it is notified of new runs; "" if it can't be
    hungry: int = 0  #: 1: it has a place for a run, and found none
    concurrency: int = 0
    started_at: float = 0.0


#: Return the values of a row, in the order of its columns. Much faster than `astuple`, which copies deeply.
values_of_run = attrgetter(*RunRow.__slots__)
values_of_part = attrgetter(*PartRow.__slots__)
values_of_event = attrgetter(*EventRow.__slots__)


def placeholders(count: int) -> str:
    """Return so many placeholders for values, as SQL."""
    return ", ".join("?" * count)


def columns_of(row: Any) -> str:
    """Return the columns of a class of rows, as SQL."""
    return ", ".join(row.__slots__)
