"""`QueueStore`: the protocol of a store in which runs wait for a worker. `desist.db.store.queue_part` implements the
protocol, `desist.engine` uses it.

Submitting a run needs only the store: the run is stored as queued, and workers find it there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from desist.cancel.status import RunStatus
from desist.run.storage.shared_store import SharedStore
from desist.run.storage.values import StoredRun
from desist.runtime.latch import Latch

__all__ = ["ClaimedRun", "CompletionWatch", "QueueStore", "QueuedRun", "queue_store"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedRun:
    """A run that waits for a worker."""

    run_id: str
    workflow_id: str
    since: float  #: when it was submitted; seconds since the epoch
    workers: int  #: how many live workers have its workflow

    @property
    def waits_for(self) -> str:
        """Return the reason of the wait, as text."""
        if self.workers == 0:
            return f"a worker that has {self.workflow_id!r}"
        return "its turn at the worker that has it" if self.workers == 1 else f"its turn at {self.workers} workers"

    @property
    def words(self) -> str:
        """Say that it waits, and for what."""
        return f"waiting for {self.waits_for}"


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run that this process has claimed, to be started here."""

    run: StoredRun  #: the run, with the outputs of its finished steps
    options: dict[str, Any] = field(default_factory=dict)  #: the options that it was submitted with


class CompletionWatch(Protocol):
    """A watch of a run of any process, until the run has ended."""

    status: RunStatus | None  #: None: there is no such run
    latch: Latch  #: set when the run has ended, or was deleted


class QueueStore(SharedStore, Protocol):
    """The queue of a store. Methods that block return when the change is durable, and raise `StoreError`."""

    def queue_run(self, run: StoredRun, options: dict[str, Any]) -> None:
        """Store a run for the workers. Blocks.

        Raises:
            RunIdInUseError: there is a run with this id.
        """

    def take_queued(self, run_id: str) -> ClaimedRun | None:
        """Claim a queued run, or a run whose process has died; None if another process has it. Blocks."""

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
