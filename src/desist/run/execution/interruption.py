"""Stopping a run: decide, interrupt, wait for the grace, and name what can't be stopped.

Nothing in here waits: each end of a task, a thread or a child asks `_advance()` what is due now.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from desist.calls.base import Call
from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import Abandoned, CancelReceipt
from desist.cancel.scope import BodyState as BodyState
from desist.cancel.scope import CleanupState, NextAction, Outcome, Reach, Scope
from desist.cancel.status import RunStatus
from desist.exceptions import RunCancelled
from desist.run.execution.call_interruption import CallInterruption, do_all, interrupt_all
from desist.run.execution.ownership import Ownership
from desist.run.options.budget import Budget, BudgetMeter
from desist.run.options.durable_limits import Deadline
from desist.run.storage.values import CancelRequest
from desist.runtime.loop_probe import LoopProbe
from desist.runtime.timer_thread import reaper

__all__ = ["Decision", "Interruption", "cancel_many"]

log = logging.getLogger("desist.run")

#: Seconds that a forced cancel leaves for unwinding without cleanup.
FORCED_GRACE = 0.01
#: Seconds between two looks at a loop that is busy when a grace is over, and how long it may be late in all.
PROBE_INTERVAL, MAX_EXTENSION, LATE_FORCED = 0.003, 1.0, 0.1

_RUNNING = RunStatus.running


@dataclass(slots=True)
class Decision:
    """What a cancel request has decided, and what is still to be done about it."""

    receipt: CancelReceipt
    run: Interruption  #: the highest that it was about
    hits: list[Scope] = field(default_factory=list)  #: what it cancelled, children first: to be interrupted
    grace: float = 0.0
    stays: bool = False  #: a run that was to go on elsewhere is cancelled for good

    def interruption(self, how: CancelRequest) -> CallInterruption:
        """Return what has to be done to `hits`."""
        return CallInterruption([hit.owner for hit in self.hits], self.grace, how.force)

    def note(self, how: CancelRequest) -> None:
        """Have it recorded, and shorten the grace of what was being cancelled before. After the interruption."""
        if self.hits or self.stays:
            self.run._record_cancel(how.reach, self.grace, how.force, how.compensate)
        elif self.receipt.outcome is Outcome.already_cancelling and (how.force or how.grace is not None):
            self.run._shorten_grace(how.grace or 0.0, how.force)


class Interruption(Ownership):
    """A run that can be stopped, from any thread."""

    def cancel(
        self,
        reason: CancelReason,
        *,
        reach: Reach = "tree",
        grace: float | None = None,
        force: bool = False,
        compensate: bool = False,
    ) -> CancelReceipt:
        """Decide, interrupt, answer. From any thread; returns at once: who interrupts many is a helper thread.

        Of a run that another process has taken over the record decides: then this waits for that.
        """
        how = CancelRequest(reason=reason, reach=reach, grace=grace, force=force, compensate=compensate)
        decision = self.decide(how)
        if decision.hits:
            self._interrupt_all(decision.hits, force, decision.grace)
        decision.note(how)
        return decision.receipt

    def decide(self, how: CancelRequest) -> Decision:
        """Decide and answer. From then on nothing new starts; what goes on is still to be interrupted."""
        with self.lock:
            verdict = self.scope.request(how.reason, how.reach)
            if verdict.cancelled:
                self._apply_cancel_decision(verdict.cancelled)
                for hit in verdict.cancelled if how.compensate else ():
                    hit.owner.compensate_requested = True
            target: Interruption = verdict.target.owner
            stays, asks = target._turn_handover_into_cancel(how.reason), target._store_decides_cancel(how.reason)
        if asks and target.shared is not None:
            return Decision(target._ask_record(how), target)
        top: Interruption = verdict.cancelled[-1].owner if verdict.cancelled else target
        given = top.grace if how.grace is None else how.grace
        if verdict.cancelled:
            top._start_grace(given, how.force)
        status = lambda: target.scope.status  # noqa: E731
        receipt = CancelReceipt(verdict.outcome, target.run_id, status, target.record, target.settled)
        return Decision(receipt, top, verdict.cancelled, given, stays)

    def stop(self, source: Source, text: str | None = None) -> CancelReceipt:
        """Cancel the tree, from inside the library."""
        repeated = source is Source.interrupt and self.scope.status is RunStatus.cancelling
        reach: Reach = "own" if source is Source.consumer_closed else "tree"
        return self.cancel(CancelReason(source=source, text=text, by="desist"), reach=reach, force=repeated)

    def set_deadline(self, seconds: float | None, what: str, reach: Reach = "run", until: float | None = None) -> None:
        """Cancel this run when `seconds` have passed, with source `deadline`.

        Parameters:
            until: that many seconds count from an earlier time; this is when they end, in seconds since the epoch.
        """
        if seconds is not None and not self.token.cancelled:
            if reach == "run":
                self.options.limits.append(Deadline(seconds, what, time.time() + seconds if until is None else until))
            left = seconds if until is None else until - time.time()
            text = f"{what} of {seconds:g} s is over" if seconds > 0 else f"{what} is over"

            def over() -> None:
                reason = CancelReason(source=Source.deadline, text=text, by="desist")
                self.limit_reason = reason if reach == "own" else None  # first: whoever waits for the run asks at once
                self.cancel(reason, reach=reach)

            if left > 0:
                self._limits.append(reaper.call_at(time.monotonic() + left, over))
            else:
                over()

    @property
    def stopped_by_own_deadline(self) -> bool:
        """Whether whoever started it has put an end to it: a step's timeout."""
        return self.limit_reason is not None and self.scope.reason is self.limit_reason

    @property
    def grace_left(self) -> float | None:
        """Seconds until what still runs is given up; None unless it is being cancelled."""
        return max(0.0, self._grace_deadline - time.monotonic()) if self.scope.status is RunStatus.cancelling else None

    def set_budget(self, budget: Budget | None) -> None:
        """Count what this run and all below it spend, and cancel it past the budget. Before it is started."""
        if budget is not None:
            self.options.budget = budget
            kept = getattr(self.body, "resumable", False)
            self.spending = (*self.spending, BudgetMeter(self, budget, self.options.spent, checkpointed=kept))

    def _apply_cancel_decision(self, cancelled: Iterable[Scope]) -> None:
        """Note what was just decided, and drop what isn't delivered. With the lock held: it must be quick for many."""
        runs: list[Interruption] = [hit.owner for hit in cancelled]
        if not runs:
            return
        top = runs[-1]
        assert top.scope.reason is not None
        top.show_cancelling()  # the others' outputs say so when they are interrupted, or conclude
        if top.scope.reason.source is not Source.lease_lost:  # else it goes on elsewhere
            for run in runs:
                if run.tasks.loop is not None:  # else it never started: there is nothing to clean up
                    run.scope.cleanup = CleanupState.due
        ids = {run.run_id for run in runs}
        for teller in {run.stream_owner for run in runs}:
            if teller.run_id in ids:  # also what a child said that has ended since
                teller.bridge.discard(lambda event: event.is_content)
            else:
                teller.bridge.discard(lambda event: event.is_content and event.run_id in ids)

    def show_cancelling(self) -> None:
        """Say in the output that it is being cancelled. With the lock held."""
        if self.scope.status is RunStatus.cancelling and not self.scope.finalizing:
            self.body.output.status, self.body.output.cancel = RunStatus.cancelling, self.record

    def _interrupt_all(self, cancelled: Iterable[Scope], force: bool = False, grace: float | None = None) -> None:
        """Stop what these runs do, children first. Without the lock."""
        interrupt_all([CallInterruption([hit.owner for hit in cancelled], grace, force)])

    def deliver_to_tasks(self, grace: float, force: bool) -> None:
        """Cancel what it does on its loop. From any thread."""
        if self.scope.body is not BodyState.ended:
            self.tasks.cancel_until_done(grace, lambda: self.scope.body is not BodyState.ended, force=force)

    def was_told(self, *, late: bool) -> None:
        """All of its work was told to stop.

        Parameters:
            late: that took time, because there was much: its grace counts from now on.
        """
        with self.lock:
            self._interrupted = True
            if late and self._given is not None:
                self._grace_deadline = max(self._grace_deadline, time.monotonic() + self._given)
        self._advance()

    def _advance(self) -> None:
        """Do what is due: join the children, or conclude."""
        hits: list[Scope] = []
        with self.lock:
            due = self.scope.advance()
            if due is NextAction.cancel_children:
                hits = self.scope.cancel_children()
                self._apply_cancel_decision(hits)
            if due is NextAction.finalize and self.record is not None and self.record.delivered_at is None:
                self.record.delivered_at = time.time()  # it saw by itself that it was cancelled, before it was told
        if hits:
            for hit in hits:
                hit.owner._start_grace(hit.owner.grace, False)
            self._interrupt_all(hits)
        if due is NextAction.clean_up:
            self._run_cleanup()
        if due is NextAction.confirm_end:
            self._confirm_end()
        if due is NextAction.finalize:
            self._finalize()

    # -- the grace

    def _start_grace(self, grace: float, force: bool) -> None:
        self._given = FORCED_GRACE if force else grace
        self._grace_deadline = time.monotonic() + self._given
        self._forced = force
        self._limits.append(reaper.call_at(self._grace_deadline, self._on_grace_expired))

    def _shorten_grace(self, grace: float, force: bool) -> None:
        """A repeated cancel can only shorten the grace."""
        seconds = FORCED_GRACE if force else grace
        due = time.monotonic() + seconds
        with self.lock:
            runs: list[Interruption] = [scope.owner for scope in self.scope.walk()]
            for run in runs:
                run._forced = run._forced or force
            if due < self._grace_deadline or force:
                self._grace_deadline = due
                self._given = seconds if self._given is None else min(self._given, seconds)
        do_all([piece for run in runs for piece in run._hurries(grace, force)])
        reaper.call_at(due, self._on_grace_expired)

    def _hurries(self, grace: float, force: bool) -> Iterator[Callable[[], object]]:
        if force:
            yield partial(self.deliver_to_tasks, 0.0, force)
        for work in list(self.scope.work):
            yield partial(work.interrupt, 0.0, force=True) if force else partial(work.shorten_grace, grace)

    def _on_grace_expired(self) -> None:
        """The grace is over. Called by the reaper."""
        with self.lock:
            due = max(self._grace_deadline, *(scope.owner._extended_deadline() for scope in self.scope.walk()))
            late: list[Interruption] = []
            early = time.monotonic() < due
            if not early and self._loops_still_busy(due):
                early, due = True, time.monotonic() + PROBE_INTERVAL
            if not early:
                late = [scope.owner for scope in self.scope.expire_grace()]
                for run in late:
                    run._abandon_calls()
        if early and due < math.inf and self.scope.status is RunStatus.cancelling:
            reaper.call_at(due, self._on_grace_expired)
        told: set[int] = set()  # children come first; the records above them name the same work
        for run in late:
            for item in run.record.abandoned if run.record else ():
                if id(item) not in told:
                    told.add(id(item))
                    words = "run %s: %s %r could not be stopped and is abandoned"
                    log.warning(words, run.run_id, item.kind, item.name, extra=run.ids)
            if run.scope.cleanup is CleanupState.running:  # not under the lock: users' callbacks hang on the token
                run._tidy_token.cancel(run.scope.reason)
                run._tidying.cancel_until_done(
                    0.0,
                    lambda scope=run.scope: scope.cleanup is CleanupState.running,  # type: ignore[misc]
                    force=True,
                )
            run._advance()

    def _loops_still_busy(self, due: float) -> bool:
        """Whether what still runs is only late: its loop, or whoever cancels it, is busy. With the lock held."""
        if time.monotonic() > due + (LATE_FORCED if self._forced else MAX_EXTENSION):
            return False
        if any(scope.reason is not None and not scope.owner._interrupted for scope in self.scope.walk()):
            return True  # then it isn't known yet what of it is under a shield, or dying
        loops = {loop for scope in self.scope.walk() if not scope.finalizing for loop in scope.owner._loops()}
        looks = [self._pulses.setdefault(loop, LoopProbe(loop)).check() for loop in loops]  # each counts
        return "late" in looks

    def _loops(self) -> set[asyncio.AbstractEventLoop]:
        """Return the loops on which something of it still lives."""
        loops = {getattr(work, "loop", None) for work in self.scope.work}
        if self.scope.body is not BodyState.ended or self.scope.cleanup is CleanupState.running:
            loops.add(self.tasks.loop)
        return {loop for loop in loops if loop is not None}

    def _extended_deadline(self) -> float:
        """Until when what it does must not be given up, in seconds of `time.monotonic`."""
        dying = max((float(work.kill_deadline) for work in self.scope.work), default=0.0)
        if self._forced:
            return dying
        if any(work.interrupt_mode == "never" for work in self.scope.work):
            return math.inf
        spared = [float(work.shield_deadline) for work in self.scope.work]
        return max(self.tasks.shield_deadline, dying, *spared)

    def _abandon_calls(self) -> None:
        """Name what is still running. With the lock held."""
        assert self.record is not None
        given_up = [work.abandon() for work in self.scope.work]
        if self.scope.cleanup is CleanupState.running:
            hooks = [hook for hook in self.record.cleanup if hook.status == "running"]
            given_up += [Abandoned(name=hook.name, kind=hook.kind) for hook in hooks]
            for hook in hooks:
                hook.status, hook.error = "stopped", "the grace was over"
        told = bool(self.record.abandoned)  # what hangs below it, and is the reason that it hangs
        if self.scope.body is not BodyState.ended and not given_up and not told:
            given_up.append(
                Abandoned(
                    name=self.body.describe_activity() or self.body.kind,
                    kind="task",
                    blocked_in=self.tasks.stack() or None,
                )
            )
        self.record.abandoned += given_up
        above = self.scope.parent
        while above is not None:
            if above.owner.record is not None:
                above.owner.record.abandoned += given_up
            above = above.parent

    # -- what the cancel floor tells a run

    def call_started(self, work: Call) -> None:
        """Take a blocking call on. Raises `RunCancelled` if no new work may start."""
        with self.lock:
            if self.scope.status is not _RUNNING:
                raise RunCancelled(self.scope.reason)
            self.scope.work.add(work)

    def call_ended(self, work: Call) -> None:
        """A blocking call is out of its thread."""
        with self.lock:
            self.scope.work.discard(work)
            waiting = self.scope.status is RunStatus.cancelling
        if waiting:
            self._advance()
            if work.interrupt_mode == "never":  # the grace may have been over for long
                self.root._on_grace_expired()

    def connections_closed(self, count: int) -> None:
        """Connections to providers were shut down. From any thread, and from several at once."""
        with self.lock:
            if self.record is not None:
                self.record.upstream_closed += count
                top = self.root.record
                if top is not None and top is not self.record:
                    top.upstream_closed += count


def cancel_many(runs: Iterable[Interruption], how: CancelRequest) -> list[CancelReceipt]:
    """Cancel many runs with one request; return a receipt for each. All is decided before any is interrupted."""
    decisions: list[Decision] = []
    try:
        for run in runs:
            decisions.append(run.decide(how))
    finally:  # what was decided is carried out, though one couldn't be
        interrupt_all([decision.interruption(how) for decision in decisions if decision.hits])
        for decision in decisions:
            decision.note(how)
    return [decision.receipt for decision in decisions]
