"""A run whose record other processes see: it claims the record, and asks there before it ends.

Its own decision holds among the threads of this process; between processes the record decides. Both meet in one moment:
the store calls `_decide_end` while it holds the record, and that takes the lock of the tree. So whoever comes first
wins, here and everywhere. A cancel from here needs no answer of the store's: it is never held up by a database.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Future
from functools import partial
from typing import Any

from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import CancelReceipt
from desist.cancel.registry import registry
from desist.cancel.scope import CleanupState, Outcome, Reach
from desist.cancel.status import RunStatus
from desist.exceptions import LeaseLostError
from desist.run.execution.finalizer import Finalizer
from desist.run.storage.shared_store import ClaimResult, refuse_on_loop
from desist.run.storage.values import CancelRequest, StoredRun
from desist.runtime.daemon_thread import to_daemon_thread
from desist.runtime.helper_threads import asking_helpers
from desist.runtime.latch import Latch

__all__ = ["Ownership"]

log = logging.getLogger("desist.run")


#: Who tells a run to stop without wanting to end it for good: it may go on in another process.
_HANDOVER_SOURCES = (Source.lease_lost, Source.shutdown, Source.interrupt)


class Ownership(Finalizer):
    """The part of a run that deals with a shared store. Without one nothing of it is used."""

    _claimed: Latch | None = None  #: set when the store has answered; None if nobody waits for that
    _closing: list[Any] | None = None  #: the closing events, once the store has decided for the run's own end
    _refused: BaseException | None = None  #: the store has given up while it was deciding
    _handover_reason: CancelReason | None = None  #: with which it is to stop here, for another process to go on with it
    _ended_unconfirmed = (
        False  #: it was decided here, because the store didn't answer; that it ended so is still to be stored
    )

    def cancel(
        self,
        reason: CancelReason,
        *,
        reach: Reach = "tree",
        grace: float | None = None,
        force: bool = False,
        compensate: bool = False,
    ) -> CancelReceipt:
        """Decide, interrupt, answer. See `Stopping`."""
        raise NotImplementedError

    def apply_cancel_request(self, request: CancelRequest) -> None:
        """Do what another process has asked for."""
        how = {"grace": request.grace, "force": request.force, "compensate": request.compensate}
        if not self.owned_elsewhere:
            self.cancel(request.reason, reach=request.reach, **how)  # type: ignore[arg-type]  # one dict, three types

    def ownership_lost(self, message: str) -> None:
        """Another process has the run now: stop, and record nothing more."""
        self.cancel(CancelReason(source=Source.lease_lost, text=message, by="desist"))

    async def confirm_ownership(self) -> None:
        """See that nobody has taken or cancelled the run, before new work starts. For all that it starts.

        That costs nothing unless this process was frozen: then the work may come to its turn before the thread that
        looks, and would do what another process does by now.

        Raises:
            RunCancelled: it must not start.
        """
        shared = self.root.shared
        if shared is not None and shared.poll_is_overdue:
            await to_daemon_thread(shared.poll_now, "desist-db-poll")
            self.check()

    # -- giving it back

    def hand_over(self, message: str) -> CancelReceipt:
        """Stop here, and let another process go on with it, as far as it has come. Any cancel comes before that."""
        self._handover_reason = CancelReason(source=Source.lease_lost, text=message, by="desist")
        return self.cancel(self._handover_reason)

    @property
    def _handing_over(self) -> bool:
        return self._handover_reason is not None and self.scope.reason is self._handover_reason

    @property
    def _records_terminal_event(self) -> bool:
        return not self._handing_over

    @property
    def owned_elsewhere(self) -> bool:
        """Whether it is another process's now, or is just being made so: then the record decides about it."""
        reason = self.scope.reason
        if reason is None or reason.source is not Source.lease_lost:
            return False
        return self.scope.finalizing or not self._handing_over

    def _store_decides_cancel(self, reason: CancelReason) -> bool:
        """Whether a cancel is the record's to decide, because the run is another process's. With the lock held."""
        return self.shared is not None and self.owned_elsewhere and reason.source not in _HANDOVER_SOURCES

    def _ask_record(self, how: CancelRequest) -> CancelReceipt:
        """Let the record decide. Blocks for whoever wants to know; what the library itself does is handed over."""
        assert self.shared is not None
        ask = partial(self.shared.request_cancel, self.run_id, how)
        if how.reason.source is Source.user:
            refuse_on_loop(self.run_id)
            return ask()
        asking_helpers.hand_over(ask)
        return CancelReceipt(Outcome.unknown, self.run_id, lambda: None)

    def _turn_handover_into_cancel(self, reason: CancelReason) -> bool:
        """Make a cancel of what would have been a parting. With the lock held."""
        if not self._handing_over or self.scope.finalizing or self.record is None or reason.source in _HANDOVER_SOURCES:
            return False
        self.scope.reason = reason
        self.record.source, self.record.reason = reason.source, reason.text
        self.record.by, self.record.requested_at = reason.by, reason.requested_at
        for scope in self.scope.walk():
            if scope.cleanup is CleanupState.none and not scope.finalizing and scope.owner.tasks.loop is not None:
                scope.cleanup = CleanupState.due
        return True

    def _save(self, status: RunStatus) -> Any:
        if self._handing_over and self.shared is not None:
            self._unregister()  # who asks from now on asks the record
            return self.shared.give_back(self.to_stored(status))
        return super()._save(status)

    def _unregister(self) -> None:
        if self.owned_elsewhere:
            registry.discard(self.scope.owner)
        else:
            super()._unregister()

    def _record_cancel(self, reach: Reach, grace: float, force: bool, compensate: bool) -> None:
        """Have it recorded that this run, which was begun, is being cancelled from here."""
        reason = self.scope.reason
        if self.shared is None or self.tasks.loop is None or reason is None or reason.source is Source.lease_lost:
            return
        request = CancelRequest(reason=reason, reach=reach, grace=grace, force=force, compensate=compensate)
        try:
            self.shared.record_cancel(self.run_id, request)
        except Exception:
            log.debug("run %s: the store failed", self.run_id, exc_info=True, extra=self.ids)

    # -- the beginning

    def require_claim(self) -> None:
        """Let the work wait until the record is claimed: others may know this id, and have cancelled it before."""
        if self.shared is not None:
            self._claimed = Latch()

    def _start_record(self) -> Future[ClaimResult] | None:
        """Record the start. With the lock held; the answer is for `_on_claimed`, without it."""
        if self.shared is None:
            self._save(RunStatus.pending)
            return None
        try:
            return self.shared.claim_run(self.to_stored(RunStatus.pending))
        except Exception:  # the end will say so
            log.debug("run %s: the store failed", self.run_id, exc_info=True, extra=self.ids)
            return None

    def _on_claimed(self, done: Future[ClaimResult]) -> None:
        """The store has answered. A start that couldn't be recorded doesn't keep the run from its work."""
        claim = done.result() if done.exception() is None else ClaimResult()
        if claim.refused is not None:
            self.ownership_lost(claim.refused)
        elif claim.request is not None:
            self.apply_cancel_request(claim.request)
        if self._claimed is not None:
            self._claimed.set()

    async def _wait_for_claim(self) -> None:
        """Wait for the store's answer; a cancel ends the wait. For ids that others may have seen before the start."""
        if self._claimed is None or self._claimed.is_set:
            return
        answered = Latch()
        self._claimed.add_done_callback(answered.set)
        forget = self.token.on_cancel(answered.set)
        try:
            await answered.wait_async()
        except asyncio.CancelledError:
            self.cancel(CancelReason(source=Source.shutdown, text="the event loop is closing", by="desist"))
        finally:
            forget()

    # -- the end

    def _confirm_end(self) -> None:
        """Everything is through: ask whether that counts."""
        assert self.shared is not None
        try:
            answer = self.shared.end_run(self.run_id, self._decide_end)
        except Exception as error:
            self._on_confirm_failed(error)
            return
        answer.add_done_callback(self._on_confirmed)

    def _decide_end(self) -> StoredRun | None:
        """Decide. In the store's writer, while it lets no other process decide."""
        with self.lock:
            if not self.scope.confirm():
                return self.to_stored(self.scope.status) if self._ended_unconfirmed else None
        closing = self._finish_output(self.scope.status)
        with self.lock:
            self._closing, refused = closing, self._refused
        if refused is not None:  # too late to be waited for: the end was to be told by now
            self._settle_unstored(refused, closing)
        return self.to_stored(self.scope.status)

    def _on_confirmed(self, done: Future[CancelRequest | None]) -> None:
        error = done.exception()
        request = None if error is not None else done.result()
        if error is not None:
            self._on_confirm_failed(error)
        elif request is not None:
            self.apply_cancel_request(request)
        elif self._closing is not None:
            self._settle(self._closing)
        else:  # a cancel from here came first, or a child was started meanwhile
            self._advance()

    def _on_confirm_failed(self, error: BaseException) -> None:
        """The store can't decide in time: it is decided here, told, and said that it isn't known to be stored."""
        if isinstance(error, LeaseLostError) and not self.scope.status.is_final:  # nor is it for us to decide
            self.ownership_lost(str(error))
            return
        with self.lock:
            mine = self.scope.confirm()
            closing = self._closing
            if not mine and closing is None and self.scope.status.is_final:
                self._refused = error  # the writer is just deciding, and goes on from here
                return
            self._ended_unconfirmed = mine
        if mine:
            closing = self._finish_output(self.scope.status)
        if closing is not None:
            self._settle_unstored(error, closing)
        else:
            self._advance()

    def _settle_unstored(self, error: BaseException, closing: list[Any]) -> None:
        assert self.shared is not None
        self.shared.retry_in_background(self.to_stored(self.scope.status), error)
        self._not_stored(error)
        self._settle(closing)
