"""`SharedStore`: the protocol of a store that processes share. Each may read and cancel a run; one process owns it.

The stored record decides. A run claims its record when it starts, and confirms its end there unless it was cancelled,
so that the end and a cancel from another process compete in one place. `desist.db.store.shared_table_store` implements
the protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, cast

from desist.cancel.receipt import CancelReceipt
from desist.run.storage.event_buffer import EventBuffer
from desist.run.storage.store import RunStore
from desist.run.storage.values import CancelRequest, StoredRun
from desist.streams.follower import Follower

__all__ = ["ClaimResult", "RunCoordinator", "SharedStore", "StoreMustDecideError", "refuse_on_loop", "shared_store"]


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """The result of a claim."""

    request: CancelRequest | None = None  #: an earlier cancel
    refused: str | None = None  #: why another process owns the run


class RunCoordinator(Protocol):
    """Holds the record of a run that other processes see: a shared store, or a cancellation manager beside a store.

    All methods may be called from any thread; those that return a future do not block.
    """

    def claim_run(self, run: StoredRun, *, soon: bool = False) -> Future[ClaimResult]:
        """Claim a run that starts here. From then on this process applies the cancels of other processes.

        Parameters:
            soon: the run waits for the answer. Else the claim may wait some milliseconds to be stored with others.
        """

    def end_run(self, run_id: str, decide: Callable[[], StoredRun | None]) -> Future[CancelRequest | None]:
        """Store the end of a run unless it was cancelled; return the cancel request, or None.

        Parameters:
            decide: called while no other process can change the run. It returns the ended run, or None if the run
                does not end now. It must not block, and is not called if there is a cancel.
        """

    def retry_in_background(self, run: StoredRun, error: BaseException) -> None:
        """Store an end that was announced before it was stored, as soon as that is possible."""

    def is_owned_elsewhere(self, run_id: str) -> bool:
        """Return whether another process has taken over a run that is live here.

        Does not block, unless this process was frozen long enough for that: then the store is read.
        """

    @property
    def poll_is_overdue(self) -> bool:
        """Whether the last poll was so long ago that this process must have been frozen."""

    def poll_now(self) -> None:
        """Poll now: apply the cancels of other processes, and stop the runs that they have taken over.

        Blocks, but never waits for a database server.
        """

    def may_be_lost(self, run_id: str) -> bool:
        """Return whether `is_owned_elsewhere` would have to read the store. Does not block."""

    def record_cancel(self, run_id: str, request: CancelRequest) -> None:
        """Store that this process is cancelling a run, so that the run is not resumed after a crash."""


class SharedStore(RunStore, RunCoordinator, Protocol):
    """The other methods that runs use. All may be called from any thread; those that return a future do not block."""

    shared: bool

    def events_added(self, buffer: EventBuffer) -> None:
        """Store the events of a run soon. Called with the lock of the tree held; must not block."""

    def follow_run(self, run_id: str, after: int) -> Follower[Any]:
        """Return the events of a run of any process after the event of this number; -1 for all.

        Nothing is read before the first event is requested, which raises `ConfigurationError` if there is no such run.
        """

    def request_cancel(self, run_id: str, request: CancelRequest) -> CancelReceipt:
        """Cancel a run of any process, by any id of its tree. Blocks until the request is durable.

        Raises:
            StoreError: the request is not confirmed as stored.
        """

    def take_orphans(self, kind: str, owner_id: str) -> list[StoredRun]:
        """Take over the resumable runs of a workflow whose processes have died; return them with their checkpoints.

        This process owns them from then on, and must start them. Blocks.
        """

    def give_back(self, run: StoredRun) -> Future[CancelRequest | None]:
        """Hand over a run of this process to another one; if the run was cancelled, end it and return the request.

        Only the events of `run` are stored; its checkpoints are stored already.
        """

    def fail_claimed_run(self, run_id: str, message: str) -> None:
        """End a run that this process has taken over, as failed. Blocks."""


def shared_store(store: object) -> SharedStore | None:
    """Return the store if it is a `SharedStore`, else None."""
    return cast(SharedStore, store) if getattr(store, "shared", False) else None


class StoreMustDecideError(RuntimeError):
    """A store must decide about a cancel, and this thread runs an event loop."""


def refuse_on_loop(run_id: str) -> None:
    """Raise `StoreMustDecideError` if this thread runs an event loop, which a request to the store would block."""
    if asyncio._get_running_loop() is not None:
        raise StoreMustDecideError(
            f"cancel() would block this event loop: run {run_id!r} isn't known to be live in this process, so that its "
            "database or cancellation manager must be asked. Nothing was cancelled: await acancel() instead"
        )
