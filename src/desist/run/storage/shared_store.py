"""A store that several processes use, seen from below: each may look at a run, and cancel it, but one works on it.

The record is the truth. A run claims it when it starts, and asks before it ends otherwise than cancelled: so that its
end and a cancel from another process compete in one place. `desist.db.store.shared_table_store` is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from desist.cancel.receipt import CancelReceipt
from desist.run.storage.event_buffer import EventBuffer
from desist.run.storage.store import RunStore
from desist.run.storage.values import CancelRequest, StoredRun
from desist.streams.follower import Follower

__all__ = ["ClaimResult", "SharedStore", "refuse_on_loop", "shared_store"]


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """What became of the wish to work on a run."""

    request: CancelRequest | None = None  #: a cancel that came before
    refused: str | None = None  #: why another process works on it


class SharedStore(RunStore, Protocol):
    """What runs need of it. All methods may be called from any thread; none that returns a future blocks."""

    shared: bool

    def claim_run(self, run: StoredRun) -> Future[ClaimResult]:
        """Record that a run starts here. From then on, what other processes ask for is carried out by this one."""

    def end_run(self, run_id: str, decide: Callable[[], StoredRun | None]) -> Future[CancelRequest | None]:
        """Record the end of a run, unless it was cancelled; return the cancel if it was, or None.

        Parameters:
            decide: called while no other process can decide about the run. It returns the run as it ended, or None:
                it doesn't end now. It is quick, and not called if there is a cancel.
        """

    def events_added(self, recorder: EventBuffer) -> None:
        """A run has told something: store it soon. Called with the lock of its tree held; doesn't wait."""

    def follow_run(self, run_id: str, after: int) -> Follower[Any]:
        """Return a stream of what a run of whichever process tells after the event of that number; -1 for all.

        Nothing is read before the first event is asked for: then it is a `ConfigurationError` if there is no such run.
        """

    def retry_in_background(self, run: StoredRun, error: BaseException) -> None:
        """An end was told without being recorded: tell it so here, and record it when that is possible."""

    def is_owned_elsewhere(self, run_id: str) -> bool:
        """Whether another process has taken a run that lives here, which this one doesn't know yet.

        Quick, unless this process was frozen for so long that it may be: then it looks.
        """

    @property
    def poll_is_overdue(self) -> bool:
        """Whether this process hasn't looked for so long what others did to its runs that it must have been frozen."""

    def poll_now(self) -> None:
        """Look now, and carry out what others ask for; stop what they have taken. Blocks, but waits for no server."""

    def may_be_lost(self, run_id: str) -> bool:
        """Whether `is_owned_elsewhere` would have to look. Quick."""

    def record_cancel(self, run_id: str, request: CancelRequest) -> None:
        """Record that a run is being cancelled from here, so that it isn't taken up again after a crash."""

    def request_cancel(self, run_id: str, request: CancelRequest) -> CancelReceipt:
        """Cancel a run of whichever process, by any id of its tree. Durable when this returns; blocks till then.

        Raises:
            StoreError: it isn't known to be recorded.
        """

    def take_orphans(self, kind: str, owner_id: str) -> list[StoredRun]:
        """Take the runs of a workflow that were left by processes that died and may go on; as far as they had come.

        They are this process's from now on, and are to be started here. Blocks.
        """

    def give_back(self, run: StoredRun) -> Future[CancelRequest | None]:
        """Let another process go on with a run of this one; if it was cancelled, end it and return the request.

        Of `run` only what it has told counts: what it has done is recorded.
        """

    def fail_claimed_run(self, run_id: str, message: str) -> None:
        """End a run that was taken as failed. Blocks."""


def shared_store(store: Any) -> SharedStore | None:
    """Return the store if several processes may use it."""
    found: SharedStore | None = store if getattr(store, "shared", False) else None
    return found


def refuse_on_loop(run_id: str) -> None:
    """Raise `RuntimeError` if this thread runs an event loop, which asking about a run elsewhere would block."""
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            f"cancel() would block this event loop: run {run_id!r} isn't known to be live in this process, so that its "
            "database or cancellation manager must be asked. Nothing was cancelled: await acancel() instead"
        )
