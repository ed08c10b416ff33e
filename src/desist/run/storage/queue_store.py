"""`QueueStore`: the protocol of a store in which runs wait for a worker. `desist.db.store.queue_part` implements the
protocol, `desist.engine` uses it.

Submitting a run needs only the store: the run is stored as queued, and workers find it there.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from desist.cancel.receipt import CancelReceipt
from desist.cancel.status import RunStatus
from desist.run.storage.shared_store import SharedStore
from desist.run.storage.values import CancelRequest, StoredRun
from desist.runtime.latch import Latch

__all__ = [
    "ClaimedRun",
    "CompletionWatch",
    "QueueRequest",
    "QueueStatistics",
    "QueueStore",
    "QueuedRun",
    "Schedule",
    "WorkerInfo",
    "queue_store",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedRun:
    """A run that waits for a worker."""

    run_id: str
    workflow_id: str
    since: float  #: when it was submitted; seconds since the epoch
    workers: int  #: how many live workers have its workflow
    due_at: float | None = None  #: it is claimed no sooner; seconds since the epoch
    held_by: str | None = None  #: the key whose runs it waits for
    paused: bool = False  #: no runs of its workflow are claimed

    @property
    def waits_for(self) -> str:
        """Return the reason of the wait, as text."""
        if self.due_at is not None:
            return f"its time, {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(self.due_at))}"
        if self.held_by is not None:
            return f"the end of another run with the key {self.held_by!r}"
        if self.paused:
            return f"{self.workflow_id!r}, which is paused"
        if self.workers == 0:
            return f"a worker that has {self.workflow_id!r}"
        return "its turn at the worker that has it" if self.workers == 1 else f"its turn at {self.workers} workers"

    @property
    def words(self) -> str:
        """Say that it waits, and for what."""
        return f"waiting for {self.waits_for}"


@dataclass(frozen=True, slots=True)
class QueueRequest:
    """A run to be queued, and when and beside which others workers may claim it."""

    run: StoredRun
    options: dict[str, Any]  #: the options that it is submitted with, as JSON values
    given_id: bool = False  #: its id was chosen by the caller
    priority: int = 0
    delay: float | None = None  #: seconds until it may be claimed
    due_at: float | None = None  #: when it may be claimed; seconds since the epoch
    concurrency_key: str | None = None
    dedup_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatistics:
    """The submitted runs of a workflow, and its limits on all workers."""

    workflow_id: str
    queued: int = 0  #: runs that a worker may claim now
    scheduled: int = 0  #: runs that wait for their time
    held: int = 0  #: runs that wait for the end of another one with their key
    running: int = 0  #: runs that workers have
    oldest: float | None = None  #: age of the queued run that waits longest, in seconds
    workers: int = 0  #: live workers that have the workflow
    limit: int | None = None  #: the maximum of live runs
    limit_per_key: int = 1  #: the maximum of live runs with one key
    paused: bool = False  #: no more runs are claimed


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """A worker."""

    process: str
    description: str  #: host and process id
    workflows: list[str]
    concurrency: int  #: the maximum of its live runs
    running: list[str]  #: the ids of its live runs
    started_at: float  #: seconds since the epoch
    live: bool  #: its lease is not over, and its process not known to be dead


@dataclass(frozen=True, slots=True)
class Schedule:
    """A run that is submitted periodically."""

    name: str
    workflow_id: str
    cron: str  #: minute, hour, day, month, weekday
    timezone: str
    input: Any
    next_at: float  #: seconds since the epoch


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run that this process has claimed, to be started here."""

    run: StoredRun  #: the run, with the outputs of its finished steps
    options: dict[str, Any] = field(default_factory=dict)  #: the options that it was submitted with
    new_session: bool = False  #: there is no session with its id: none needs to be loaded


class CompletionWatch(Protocol):
    """A watch of a run of any process, until the run has ended."""

    status: RunStatus | None  #: None: there is no such run
    latch: Latch  #: set when the run has ended, or was deleted


class QueueStore(SharedStore, Protocol):
    """The queue of a store. Methods that block return when the change is durable, and raise `StoreError`."""

    def queue_runs(self, requests: Sequence[QueueRequest]) -> list[str]:
        """Store runs for the workers, in one transaction. Blocks.

        Returns:
            The id of each run, or of the run with its dedup key that waits already.

        Raises:
            RunIdInUseError: there is a run with the id of one of them. None of them is stored.
        """

    def take_queued(self, run_id: str) -> ClaimedRun | None:
        """Claim a queued run, or a run whose process has died; None if another process has it. Blocks."""

    def release(self, run_ids: Collection[str]) -> None:
        """Requeue soon those of these runs that this process has claimed and not started. Does not block."""

    def queue_statistics(self) -> list[QueueStatistics]:
        """Return the submitted runs of each workflow, and its limits. Blocks."""

    def statuses(self, run_ids: Sequence[str]) -> dict[str, RunStatus]:
        """Return the statuses of those of these runs that exist. Blocks."""

    def request_cancels(self, run_ids: Sequence[str], request: CancelRequest) -> list[CancelReceipt]:
        """Cancel runs of any process, all in one decision; return a receipt for each. Blocks."""

    def store_schedule(self, name: str, workflow_id: str, cron: str, timezone: str, request: str, at: float) -> None:
        """Store that a workflow's runs are submitted periodically. Blocks.

        Parameters:
            request: JSON: the input and the options of `submit`.
            at: the first time; seconds since the epoch.
        """

    def watch_end(self, run_id: str) -> CompletionWatch:
        """Watch a run of any process until it has ended."""

    def remove_watch(self, watch: CompletionWatch) -> None:
        """Remove a watch."""

    def queued_runs(self, limit: int = 1000) -> list[QueuedRun]:
        """Return the queued runs, the longest wait first. Blocks."""


def queue_store(store: Any) -> QueueStore | None:
    """Return the store if it is a `QueueStore`, else None."""
    found: QueueStore | None = store if getattr(store, "shared", False) else None
    return found
