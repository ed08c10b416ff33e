"""The end of a run whose record other processes see: its completion and their cancels compete in the store.

Two locks meet here, always in this order: the store holds the record, then `decide` takes the lock of the tree. So the
first decision wins, in this process and in all others.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, Protocol

from desist.cancel.run_phase import ConfirmationState, PhaseEvent, apply_event
from desist.exceptions import LeaseLostError
from desist.run.execution.finalizer import EndingRun, Finalizer
from desist.run.execution.ownership import note_store_error
from desist.run.execution.run_snapshot import to_stored
from desist.run.storage.shared_store import RunCoordinator
from desist.run.storage.values import CancelRequest, StoredRun

__all__ = ["ConfirmedRun", "EndConfirmation"]


class ConfirmedRun(EndingRun, Protocol):
    """A run whose end must be confirmed."""

    finalizer: Finalizer

    def ownership_lost(self, message: str) -> None:
        """Stop the run, because another process has it now."""


class EndConfirmation:
    """Asks the store whether a run may complete or fail.

    May be asked again: a child or a cancel that came in between sends the run back to work. Of one question the answer
    and its timeout may both arrive, in any order, from different threads. `state` changes under the lock and lets
    exactly one of them settle the run.
    """

    def __init__(self, run: ConfirmedRun, shared: RunCoordinator) -> None:
        self._run, self._shared = run, shared
        self.state = ConfirmationState.open
        self._closing: list[Any] = []  #: the closing events, once decided
        self._error: BaseException | None = None  #: why the answer is overdue

    def _move(self, event: PhaseEvent) -> None:
        self.state = apply_event(self._run.run_id, self.state, event)

    def ask(self) -> None:
        """Ask the store. Without the lock; the answer arrives in the store's thread."""
        try:
            answer = self._shared.end_run(self._run.run_id, self.decide)
        except Exception as error:
            self.on_failed(error)
            return
        answer.add_done_callback(self.on_answer)

    def decide(self) -> StoredRun | None:
        """Decide completion or failure; return the run to store, or None if it doesn't end now.

        Called by the store's writer while the record is held: no other process can decide meanwhile. After a failed
        answer the writer may still call this: then the end that was decided here is returned, to be stored.
        """
        run = self._run
        with run.lock:
            if not run.scope.confirm():
                unconfirmed = self.state is ConfirmationState.unconfirmed
                return to_stored(run, run.scope.status) if unconfirmed else None
            self._move(PhaseEvent.decide)
        closing = run.finalizer.finish_output(run.scope.status)
        with run.lock:
            self._closing, error = closing, self._error
            self._move(PhaseEvent.finish_output)
        if error is not None:  # the answer is overdue: nothing else will settle the run
            self._settle_unstored(error, closing)
        return to_stored(run, run.scope.status)

    def on_answer(self, done: Future[CancelRequest | None]) -> None:
        """Act on the store's answer. In the store's thread, without the lock."""
        error = done.exception()
        request = None if error is not None else done.result()
        if error is not None:
            self.on_failed(error)
        elif request is not None:
            self._run.apply_cancel_request(request)
        elif self.state is ConfirmationState.decided:
            self._run.finalizer.settle(self._closing)
        else:  # a cancel of this process was first, or a child was started meanwhile
            self._run.advance()

    def on_failed(self, error: BaseException) -> None:
        """Decide here, since the store can't answer in time; the output says that the end isn't confirmed as stored.

        A lost lease is different: then another process decides, and this one must stop.
        """
        run = self._run
        if isinstance(error, LeaseLostError) and not run.scope.status.is_final:
            run.ownership_lost(str(error))
            return
        with run.lock:
            if run.scope.pausing and not run.scope.finalizing:  # a pause that nobody can see would never be answered
                run.scope.pausing, run.scope.failed, run.error = False, True, error
            decided_here = run.scope.confirm()
            if decided_here:
                self._move(PhaseEvent.time_out)
            elif self.state is ConfirmationState.deciding:  # in the writer's thread, which will settle the run
                self._error = error
                self._move(PhaseEvent.time_out)
                return
        if decided_here:
            self._settle_unstored(error, run.finalizer.finish_output(run.scope.status))
        elif self.state is ConfirmationState.decided:
            self._settle_unstored(error, self._closing)
        else:
            run.advance()

    def _settle_unstored(self, error: BaseException, closing: list[Any]) -> None:
        run = self._run
        self._shared.retry_in_background(to_stored(run, run.scope.status), error)
        note_store_error(run, error)
        run.finalizer.settle(closing)
