"""Deciding about cancel requests. The decision is one step under the lock; what follows from it is done without.

decide (lock) -> interrupt -> record, or shorten the grace of an earlier cancel
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from desist.cancel.receipt import CancelReceipt
from desist.cancel.scope import Outcome, Scope
from desist.cancel.status import RunStatus
from desist.run.execution.call_interruption import CallInterruption, interrupt_all
from desist.run.execution.interruption import InterruptibleRun, apply_decision
from desist.run.execution.ownership import Ownership
from desist.run.execution.pausing import cancel_paused
from desist.run.storage.values import CancelRequest

__all__ = ["Decision", "cancel_many", "decide"]


class CancellableRun(InterruptibleRun, Protocol):
    """A run that can be cancelled, in a tree of such runs."""

    ownership: Ownership

    @property
    def scope(self) -> Scope[CancellableRun]:
        """The run as the decisions see it."""


@dataclass(slots=True)
class Decision:
    """The outcome of a cancel request, and what is still to be done about it."""

    receipt: CancelReceipt
    run: CancellableRun  #: the highest run that the request was about
    cancelled: Sequence[Scope[CancellableRun]] = ()  #: to be interrupted, children first
    grace: float = 0.0  #: seconds
    replaced_handover: bool = False  #: a run that was to be handed over is cancelled for good

    def interruption(self, request: CancelRequest) -> CallInterruption:
        """Return the interruption of the cancelled runs."""
        return CallInterruption([scope.owner for scope in self.cancelled], self.grace, request.force)

    def record(self, request: CancelRequest) -> None:
        """Record the cancel, or shorten the grace of an earlier one. After the interruption, which must not wait."""
        run = self.run
        if self.cancelled or self.replaced_handover:
            if run.scope.reason is not None:
                run.ownership.record_cancel(replace(request, reason=run.scope.reason, grace=self.grace))
        elif self.receipt.outcome is Outcome.already_cancelling and (request.force or request.grace is not None):
            run.interruption.shorten(request.grace or 0.0, request.force)


def decide(run: CancellableRun, request: CancelRequest) -> Decision:
    """Decide and answer. From any thread, without the lock. Afterwards nothing new starts in the cancelled runs.

    A second request cancels nothing; its receipt has the first reason. What is running is still to be interrupted.
    """
    with run.lock:
        verdict = run.scope.request(request.reason, request.reach)
        if verdict.cancelled:
            apply_decision(verdict.cancelled)
            for scope in verdict.cancelled if request.compensate else ():
                scope.owner.finalizer.compensate_requested = True
        target = verdict.target.owner
        paused = target.scope.status is RunStatus.paused
        replaced_handover = target.ownership.turn_handover_into_cancel(request.reason)
        ask_store = target.ownership.store_decides_cancel(request.reason)
    if paused:
        return Decision(cancel_paused(target, request), target)
    if ask_store:
        return Decision(target.ownership.request_cancel(request), target)
    top = verdict.cancelled[-1].owner if verdict.cancelled else target
    grace = top.grace if request.grace is None else request.grace
    if verdict.cancelled:  # before the interruption: the grace counts from the decision
        top.interruption.start_grace(grace, request.force)
    scope = target.scope
    receipt = CancelReceipt(verdict.outcome, target.run_id, lambda: scope.status, target.record, target.settled)
    return Decision(receipt, top, verdict.cancelled, grace, replaced_handover)


def cancel_many(runs: Iterable[CancellableRun], request: CancelRequest) -> list[CancelReceipt]:
    """Cancel many runs with one request; return a receipt for each. All is decided before any is interrupted."""
    decisions: list[Decision] = []
    try:
        for run in runs:
            decisions.append(decide(run, request))
    finally:  # decisions hold, though a later one failed: they are carried out
        interrupt_all([decision.interruption(request) for decision in decisions if decision.cancelled])
        for decision in decisions:
            decision.record(request)
    return [decision.receipt for decision in decisions]
