"""The ownership of a run whose record other processes see: it claims the record, and asks the store before it ends.

Among the threads of this process the lock of the tree decides; between processes the record does. A cancel from here
needs no answer of the store: a slow database never delays it.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Future
from functools import partial

from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import CancelReceipt
from desist.cancel.registry import registry
from desist.cancel.run_phase import CleanupState
from desist.cancel.scope import Outcome
from desist.cancel.status import RunStatus
from desist.run.execution.end_confirmation import ConfirmedRun, EndConfirmation
from desist.run.execution.run_snapshot import to_stored
from desist.run.storage.shared_store import ClaimResult, RunCoordinator, refuse_on_loop, shared_store
from desist.run.storage.values import CancelRequest
from desist.runtime.daemon_thread import to_daemon_thread
from desist.runtime.helper_threads import asking_helpers
from desist.runtime.latch import Latch

__all__ = ["StoreOwnership"]

log = logging.getLogger("desist.run")

#: Sources of cancels that stop a run here without ending it for good: another process may resume it.
_HANDOVER_SOURCES = (Source.lease_lost, Source.shutdown, Source.interrupt)


class StoreOwnership:
    """The ownership of one run through its record. See `Ownership` for the lock and thread of each method."""

    def __init__(self, run: ConfirmedRun, shared: RunCoordinator) -> None:
        self._run, self._shared = run, shared
        self.confirmation = EndConfirmation(run, shared)
        self._claimed: Latch | None = None  #: set when the claim is answered; None: the body doesn't wait for that
        self._handover_reason: CancelReason | None = None

    # -- the beginning

    def require_claim(self) -> None:
        """Make the body wait until the record is claimed: other processes may have cancelled this id."""
        self._claimed = Latch()

    def record_start(self) -> Future[ClaimResult] | None:
        """Claim the record. A claim that fails doesn't keep the run from its work; its end reports the error."""
        run = self._run
        try:
            return self._shared.claim_run(to_stored(run, RunStatus.pending), soon=self._claimed is not None)
        except Exception:
            log.debug("run %s: the store failed", run.run_id, exc_info=True, extra=run.ids)
            return None

    def on_claimed(self, done: Future[ClaimResult]) -> None:
        """Stop the run if another process has it or has cancelled it; then let the body begin."""
        claim = done.result() if done.exception() is None else ClaimResult()
        if claim.refused is not None:
            self._run.ownership_lost(claim.refused)
        elif claim.request is not None:
            self._run.apply_cancel_request(claim.request)
        if self._claimed is not None:  # last: the body must see the cancel
            self._claimed.set()

    async def wait_claimed(self) -> None:
        """Wait for the answer to the claim, or for a cancel."""
        if self._claimed is None or self._claimed.is_set:
            return
        answered = Latch()
        self._claimed.add_done_callback(answered.set)
        remove = self._run.token.on_cancel(answered.set)
        try:
            await answered.wait_async()
        except asyncio.CancelledError:
            self._run.cancel(CancelReason(source=Source.shutdown, text="the event loop is closing", by="desist"))
        finally:
            remove()

    async def confirm(self) -> None:
        """Poll the record if this process was frozen for longer than a lease. Otherwise costs nothing.

        After a freeze the work may get its turn before the polling thread, and would do what another process does.
        """
        if self._shared.poll_is_overdue:
            await to_daemon_thread(self._shared.poll_now, "desist-db-poll")

    # -- a cancel

    @property
    def _handing_over(self) -> bool:
        return self._handover_reason is not None and self._run.scope.reason is self._handover_reason

    @property
    def owned_elsewhere(self) -> bool:
        """Whether another process has the run now, or is just being given it: then the record decides."""
        scope = self._run.scope
        if scope.reason is None or scope.reason.source is not Source.lease_lost:
            return False
        return scope.finalizing or not self._handing_over

    def store_decides_cancel(self, reason: CancelReason) -> bool:
        """Whether the record must decide. A shutdown of this process isn't for the run's next owner."""
        return self.owned_elsewhere and reason.source not in _HANDOVER_SOURCES

    def request_cancel(self, request: CancelRequest) -> CancelReceipt:
        """Let the record decide. Blocks for a user, who wants the answer; a cancel by the library goes to a helper."""
        shared = shared_store(self._run.store)
        assert shared is not None  # a manager has no leases that could be lost
        ask = partial(shared.request_cancel, self._run.run_id, request)
        if request.reason.source is Source.user:
            refuse_on_loop(self._run.run_id)
            return ask()
        asking_helpers.hand_over(ask)
        return CancelReceipt(Outcome.unknown, self._run.run_id, lambda: None)

    def hand_over(self, message: str) -> CancelReceipt:
        """Stop the run here, and let another process resume it. Any other cancel has precedence."""
        self._handover_reason = CancelReason(source=Source.lease_lost, text=message, by="desist")
        return self._run.cancel(self._handover_reason)

    def turn_handover_into_cancel(self, reason: CancelReason) -> bool:
        """Replace the reason of a handover that hasn't reached the store. A second cancel finds no handover.

        The one exception to "the first reason wins": a handover isn't an outcome, and this cancel is the first one.
        """
        run = self._run
        if not self._handing_over or run.scope.finalizing or run.record is None or reason.source in _HANDOVER_SOURCES:
            return False
        run.scope.reason = reason
        run.record.source, run.record.reason = reason.source, reason.text
        run.record.by, run.record.requested_at = reason.by, reason.requested_at
        for scope in run.scope.walk():
            if scope.cleanup is CleanupState.none and not scope.finalizing and scope.owner.tasks.loop is not None:
                scope.require_cleanup()
        return True

    def record_cancel(self, request: CancelRequest) -> None:
        """Record the cancel, so that no process resumes the run after a crash of this one."""
        run = self._run
        if run.tasks.loop is None or request.reason.source is Source.lease_lost:
            return  # it was never started, or another process has it
        try:
            self._shared.record_cancel(run.run_id, request)
        except Exception:
            log.debug("run %s: the store failed", run.run_id, exc_info=True, extra=run.ids)

    # -- the end

    @property
    def records_terminal_event(self) -> bool:
        """False for a run that is handed over: the process that resumes it emits the terminal event."""
        return not self._handing_over

    def confirm_end(self) -> None:
        """Ask the store whether the run may complete or fail."""
        self.confirmation.ask()

    def save(self, status: RunStatus) -> Future[None] | Future[CancelRequest | None] | None:
        """Store the end, or requeue a run that is handed over."""
        run = self._run
        shared = shared_store(run.store) if self._handing_over else None
        if shared is not None:
            self.unregister()  # first: a cancel that comes from now on must ask the record
            return shared.give_back(to_stored(run, status))
        return run.store.save_run(to_stored(run, status))

    def unregister(self) -> None:
        """Leave the registry, which keeps the status of the run, unless another process has the run."""
        if self.owned_elsewhere:
            registry.discard(self._run)
        else:
            registry.end(self._run, self._run.scope.status)
