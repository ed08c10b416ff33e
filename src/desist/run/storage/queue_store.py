"""A store in which runs wait for a worker, seen from below. `desist.db.store.queue_part` is one, `desist.engine` uses
it.

Whoever submits a run needs nothing but the store: the record says that it waits, and workers find it there.
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
    workers: int  #: how many live workers have its workflow. 0: it waits for one that has

    @property
    def waits_for(self) -> str:
        """Say what it waits for."""
        if self.workers == 0:
            return f"a worker that has {self.workflow_id!r}"
        return "its turn at the worker that has it" if self.workers == 1 else f"its turn at {self.workers} workers"

    @property
    def words(self) -> str:
        """Say that it waits, and for what."""
        return f"waiting for {self.waits_for}"


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run that is this process's from now on, and is to be started here."""

    run: StoredRun  #: as far as it has come
    options: dict[str, Any] = field(default_factory=dict)  #: how it was asked for


class CompletionWatch(Protocol):
    """A run of any process, watched until it has ended."""

    status: RunStatus | None  #: None: there is no such run
    latch: Latch  #: set when it has ended, or was deleted


class QueueStore(SharedStore, Protocol):
    """What the queue needs of a store. What blocks does so until it is durable, and raises `StoreError`."""

    def queue_run(self, run: StoredRun, options: dict[str, Any]) -> None:
        """Record a run that some worker is to drive. Blocks.

        Raises:
            RunIdInUseError: there is a run with this id.
        """

    def take_queued(self, run_id: str) -> ClaimedRun | None:
        """Take a run that waits, or whose process has died; None if it isn't to be driven here. Blocks."""

    def watch_end(self, run_id: str) -> CompletionWatch:
        """Watch a run until it has ended, whichever process works on it."""

    def remove_watch(self, watch: CompletionWatch) -> None:
        """Nobody waits any more."""

    def queued_runs(self, limit: int = 1000) -> list[QueuedRun]:
        """Return the runs that wait for a worker, those that have waited longest first. Blocks."""


def queue_store(store: Any) -> QueueStore | None:
    """Return the store if runs can wait in it for a worker."""
    found: QueueStore | None = store if getattr(store, "shared", False) else None
    return found
