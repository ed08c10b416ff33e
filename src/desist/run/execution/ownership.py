"""`Ownership`: whether this process alone decides about a run (`LocalOwnership`), or a record that other processes see.

The second is `desist.run.execution.store_ownership`. The methods are what differs between the two: at the start of a
run, at a cancel, at the end.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import Protocol

from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import CancelReceipt
from desist.cancel.registry import registry
from desist.cancel.status import RunStatus
from desist.run.execution.run_core import RunCore
from desist.run.execution.run_snapshot import StorableRun, to_stored
from desist.run.storage.shared_store import ClaimResult
from desist.run.storage.values import CancelRequest

__all__ = ["LocalOwnership", "Ownership", "note_store_error"]

log = logging.getLogger("desist.run")


class Ownership(Protocol):
    """What a run asks of its ownership."""

    # -- the beginning

    def require_claim(self) -> None:
        """Make the body wait until the record is claimed, because its id may be cancelled already. Before `start`."""

    def record_start(self) -> Future[ClaimResult] | None:
        """Record the start. With the lock held; a future's answer is for `on_claimed`, without the lock."""

    def on_claimed(self, done: Future[ClaimResult]) -> None:
        """Act on the store's answer to the claim. In the store's thread."""

    async def wait_claimed(self) -> None:
        """Wait for the store's answer if that is required. A cancel ends the wait."""

    async def confirm(self) -> None:
        """See whether another process has taken or cancelled the run; if so, cancel it here. Before new work starts."""

    # -- a cancel

    @property
    def owned_elsewhere(self) -> bool:
        """Whether another process has the run now, or is just being given it: then the record decides."""

    def store_decides_cancel(self, reason: CancelReason) -> bool:
        """Whether the record must decide about a cancel, since another process has the run. With the lock held."""

    def request_cancel(self, request: CancelRequest) -> CancelReceipt:
        """Let the record decide about a cancel. Without the lock; may block."""

    def turn_handover_into_cancel(self, reason: CancelReason) -> bool:
        """Cancel for good a run that was stopped to be handed over; False if it wasn't. With the lock held."""

    def record_cancel(self, request: CancelRequest) -> None:
        """Record that the run is being cancelled from here. Never raises, never blocks."""

    def hand_over(self, message: str) -> CancelReceipt:
        """Stop the run here, and let another process resume it. Any other cancel has precedence."""

    # -- the end

    @property
    def records_terminal_event(self) -> bool:
        """Whether the end here is the end of the run, and not only of this process's part in it."""

    def confirm_end(self) -> None:
        """Ask the store whether the run may complete or fail. Called by `Run.advance`, without the lock."""

    def save(self, status: RunStatus) -> Future[None] | Future[CancelRequest | None] | None:
        """Store the end; return a future, or None if it is stored. May raise. Without the lock."""

    def unregister(self) -> None:
        """Leave the registry. A second call changes nothing."""


def note_store_error(run: RunCore, error: BaseException) -> None:
    """Record in the output that the run is not confirmed as stored. Before the run is settled."""
    run.body.output.store_error = str(error) or type(error).__name__
    log.error("run %s could not be stored: %s", run.run_id, error, extra=run.ids)


class LocalOwnership:
    """A run that only this process knows: its lock decides everything."""

    owned_elsewhere = False
    records_terminal_event = True

    def __init__(self, run: StorableRun) -> None:
        self._run = run

    def require_claim(self) -> None:
        """Do nothing: no other process knows the id."""

    def record_start(self) -> None:
        """Record the start. A start that can't be recorded doesn't keep the run from its work."""
        run = self._run
        try:
            run.store.save_run(to_stored(run, RunStatus.pending))
        except Exception as error:
            log.debug("run %s: the store failed", run.run_id, exc_info=True, extra=run.ids)
            note_store_error(run, error)

    def on_claimed(self, done: Future[ClaimResult]) -> None:
        """Do nothing: nothing is claimed."""

    async def wait_claimed(self) -> None:
        """Return at once: nothing is claimed."""

    async def confirm(self) -> None:
        """Return at once: no other process can take the run."""

    def store_decides_cancel(self, reason: CancelReason) -> bool:
        """Return False: the lock decides."""
        return False

    def request_cancel(self, request: CancelRequest) -> CancelReceipt:
        """Never called: see `store_decides_cancel`."""
        raise NotImplementedError

    def turn_handover_into_cancel(self, reason: CancelReason) -> bool:
        """Return False: a local run is never handed over."""
        return False

    def record_cancel(self, request: CancelRequest) -> None:
        """Do nothing: the end is recorded, not the request."""

    def hand_over(self, message: str) -> CancelReceipt:
        """Stop the run: no other process can resume it."""
        return self._run.cancel(CancelReason(source=Source.lease_lost, text=message, by="desist"))

    def confirm_end(self) -> None:
        """Never called: the scope of a local run needs no confirmation."""
        raise NotImplementedError

    def save(self, status: RunStatus) -> Future[None] | None:
        """Store the end."""
        return self._run.store.save_run(to_stored(self._run, status))

    def unregister(self) -> None:
        """Leave the registry, which remembers for a while how the run ended."""
        registry.end(self._run, self._run.scope.status)
