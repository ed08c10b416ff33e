"""A run whose record other processes see: it claims the record, and asks there before it ends.

Its own decision holds among the threads of this process; between processes the record decides. Both meet in one moment:
the store calls `_confirm` while it holds the record, and that takes the lock of the tree. So whoever comes first wins,
here and everywhere. A cancel from here needs no answer of the store's: it is never held up by a database.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Future
from functools import partial
from typing import Any

from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import CancelReceipt, Latch
from desist.cancel.registry import registry
from desist.cancel.scope import Outcome, Reach, Tidy
from desist.cancel.status import RunStatus
from desist.exceptions import LeaseLostError
from desist.run.execution.finalizer import Ending
from desist.run.storage.shared_store import Claim, refuse_on_loop
from desist.run.storage.values import StoredRequest, StoredRun
from desist.runtime.daemon_thread import aside
from desist.runtime.helper_threads import asking_helpers

__all__ = ["Asking"]

log = logging.getLogger("desist.run")


#: Who tells a run to stop without wanting to end it for good: it may go on in another process.
_PARTING = (Source.lease_lost, Source.shutdown, Source.interrupt)


class Asking(Ending):
    """The part of a run that deals with a shared store. Without one nothing of it is used."""

    _claimed: Latch | None = None  #: set when the store has answered; None if nobody waits for that
    _closing: list[Any] | None = None  #: the closing events, once the store has decided for the run's own end
    _refused: BaseException | None = None  #: the store has given up while it was deciding
    _leaving: CancelReason | None = None  #: with which it is to stop here, for another process to go on with it
    _unheard = False  #: it was decided here, because the store didn't answer; that it ended so is still to be stored

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

    def obey(self, request: StoredRequest) -> None:
        """Do what another process has asked for."""
        how = {"grace": request.grace, "force": request.force, "compensate": request.compensate}
        if not self.elsewhere:
            self.cancel(request.reason, reach=request.reach, **how)  # type: ignore[arg-type]  # one dict, three types

    def lose(self, words: str) -> None:
        """Another process has the run now: stop, and record nothing more."""
        self.cancel(CancelReason(source=Source.lease_lost, text=words, by="desist"))

    async def confirm_ownership(self) -> None:
        """See that nobody has taken or cancelled the run, before new work starts. For all that it starts.

        That costs nothing unless this process was frozen: then the work may come to its turn before the thread that
        looks, and would do what another process does by now.

        Raises:
            RunCancelled: it must not start.
        """
        shared = self.root.shared
        if shared is not None and shared.poll_is_overdue:
            await aside(shared.poll_now, "desist-db-poll")
            self.check()

    # -- giving it back

    def give_back(self, words: str) -> CancelReceipt:
        """Stop here, and let another process go on with it, as far as it has come. Any cancel comes before that."""
        self._leaving = CancelReason(source=Source.lease_lost, text=words, by="desist")
        return self.cancel(self._leaving)

    @property
    def _gives_back(self) -> bool:
        return self._leaving is not None and self.scope.reason is self._leaving

    @property
    def _ends_here(self) -> bool:
        return not self._gives_back

    @property
    def elsewhere(self) -> bool:
        """Whether it is another process's now, or is just being made so: then the record decides about it."""
        reason = self.scope.reason
        if reason is None or reason.source is not Source.lease_lost:
            return False
        return self.scope.concluding or not self._gives_back

    def _asks_record(self, reason: CancelReason) -> bool:
        """Whether a cancel is the record's to decide, because the run is another process's. With the lock held."""
        return self.shared is not None and self.elsewhere and reason.source not in _PARTING

    def _ask_record(self, how: StoredRequest) -> CancelReceipt:
        """Let the record decide. Blocks for whoever wants to know; what the library itself does is handed over."""
        assert self.shared is not None
        ask = partial(self.shared.request_cancel, self.run_id, how)
        if how.reason.source is Source.user:
            refuse_on_loop(self.run_id)
            return ask()
        asking_helpers.hand_over(ask)
        return CancelReceipt(Outcome.unknown, self.run_id, lambda: None)

    def _stays(self, reason: CancelReason) -> bool:
        """Make a cancel of what would have been a parting. With the lock held."""
        if not self._gives_back or self.scope.concluding or self.record is None or reason.source in _PARTING:
            return False
        self.scope.reason = reason
        self.record.source, self.record.reason = reason.source, reason.text
        self.record.by, self.record.requested_at = reason.by, reason.requested_at
        for scope in self.scope.walk():
            if scope.tidy is Tidy.none and not scope.concluding and scope.owner.tasks.loop is not None:
                scope.tidy = Tidy.due
        return True

    def _save(self, status: RunStatus) -> Any:
        if self._gives_back and self.shared is not None:
            self._sign_off()  # who asks from now on asks the record
            return self.shared.give_back(self.stored(status))
        return super()._save(status)

    def _sign_off(self) -> None:
        if self.elsewhere:
            registry.drop(self.scope.owner)
        else:
            super()._sign_off()

    def _note(self, reach: Reach, grace: float, force: bool, compensate: bool) -> None:
        """Have it recorded that this run, which was begun, is being cancelled from here."""
        reason = self.scope.reason
        if self.shared is None or self.tasks.loop is None or reason is None or reason.source is Source.lease_lost:
            return
        request = StoredRequest(reason=reason, reach=reach, grace=grace, force=force, compensate=compensate)
        try:
            self.shared.note_cancel(self.run_id, request)
        except Exception:
            log.debug("run %s: the store failed", self.run_id, exc_info=True, extra=self.ids)

    # -- the beginning

    def begin_when_claimed(self) -> None:
        """Let the work wait until the record is claimed: others may know this id, and have cancelled it before."""
        if self.shared is not None:
            self._claimed = Latch()

    def _start_record(self) -> Future[Claim] | None:
        """Record the start. With the lock held; the answer is for `_take`, without it."""
        if self.shared is None:
            self._save(RunStatus.pending)
            return None
        try:
            return self.shared.claim_run(self.stored(RunStatus.pending))
        except Exception:  # the end will say so
            log.debug("run %s: the store failed", self.run_id, exc_info=True, extra=self.ids)
            return None

    def _take(self, done: Future[Claim]) -> None:
        """The store has answered. A start that couldn't be recorded doesn't keep the run from its work."""
        claim = done.result() if done.exception() is None else Claim()
        if claim.refused is not None:
            self.lose(claim.refused)
        elif claim.request is not None:
            self.obey(claim.request)
        if self._claimed is not None:
            self._claimed.set()

    async def _wait_for_claim(self) -> None:
        """Wait for the store's answer; a cancel ends the wait. For ids that others may have seen before the start."""
        if self._claimed is None or self._claimed.is_set:
            return
        answered = Latch()
        self._claimed.then(answered.set)
        forget = self.token.on_cancel(answered.set)
        try:
            await answered.wait_async()
        except asyncio.CancelledError:
            self.cancel(CancelReason(source=Source.shutdown, text="the event loop is closing", by="desist"))
        finally:
            forget()

    # -- the end

    def _ask(self) -> None:
        """Everything is through: ask whether that counts."""
        assert self.shared is not None
        try:
            answer = self.shared.end_run(self.run_id, self._confirm)
        except Exception as error:
            self._unanswered(error)
            return
        answer.add_done_callback(self._answered)

    def _confirm(self) -> StoredRun | None:
        """Decide. In the store's writer, while it lets no other process decide."""
        with self.lock:
            if not self.scope.confirm():
                return self.stored(self.scope.status) if self._unheard else None
        closing = self._finish(self.scope.status)
        with self.lock:
            self._closing, refused = closing, self._refused
        if refused is not None:  # too late to be waited for: the end was to be told by now
            self._told_unstored(refused, closing)
        return self.stored(self.scope.status)

    def _answered(self, done: Future[StoredRequest | None]) -> None:
        error = done.exception()
        request = None if error is not None else done.result()
        if error is not None:
            self._unanswered(error)
        elif request is not None:
            self.obey(request)
        elif self._closing is not None:
            self._announce(self._closing)
        else:  # a cancel from here came first, or a child was started meanwhile
            self._advance()

    def _unanswered(self, error: BaseException) -> None:
        """The store can't decide in time: it is decided here, told, and said that it isn't known to be stored."""
        if isinstance(error, LeaseLostError) and not self.scope.status.is_final:  # nor is it for us to decide
            self.lose(str(error))
            return
        with self.lock:
            mine = self.scope.confirm()
            closing = self._closing
            if not mine and closing is None and self.scope.status.is_final:
                self._refused = error  # the writer is just deciding, and goes on from here
                return
            self._unheard = mine
        if mine:
            closing = self._finish(self.scope.status)
        if closing is not None:
            self._told_unstored(error, closing)
        else:
            self._advance()

    def _told_unstored(self, error: BaseException, closing: list[Any]) -> None:
        assert self.shared is not None
        self.shared.keep_trying(self.stored(self.scope.status), error)
        self._not_stored(error)
        self._announce(closing)
