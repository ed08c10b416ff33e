"""The paused runs of this process whose store no other process sees, and the answers to them.

A run without a shared database waits in memory, as its output and its requirements: no thread, task or connection. One
lock orders answers, cancels, deadlines and continuations, so each requirement is answered once and each run is
continued once. With a shared database its tables decide; see `desist.db.coordination.pause_transactions`.

The runs are bounded in number: beyond `LIMIT`, a run that wants to pause fails, and says so.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import CancelReceipt, CancelRecord
from desist.cancel.registry import RunHandle
from desist.cancel.scope import Outcome
from desist.cancel.status import RunStatus
from desist.exceptions import AnswerRefusedError, ConfigurationError, DesistError, RunStateError
from desist.run.records.requirement import (
    Answer,
    AnswerOutcome,
    AnswerReceipt,
    Requirement,
    RequirementState,
    check_answer,
    decide,
    resolve_timeout,
)
from desist.run.storage.values import CancelRequest, StoredRun
from desist.runtime.daemon_thread import start_daemon_thread
from desist.runtime.fork_hooks import register_at_fork
from desist.runtime.latch import Latch
from desist.runtime.timer_thread import Timer, timers

__all__ = ["LIMIT", "PausedRun", "PausedRuns", "open_message", "paused_runs", "receipt_of", "refused_continuation"]
__all__ += ["timeout_request"]

log = logging.getLogger("desist.run")

#: How many runs of a process may be paused at the same time without a shared database.
LIMIT = 10_000
#: How many runs that are not paused any more are remembered, to answer late answers.
REMEMBERED = 10_000


class PausedRun(Protocol):
    """A paused run of this process, as this module sees it."""

    run_id: str

    def end_paused(self, request: CancelRequest, record: CancelRecord) -> Future[None] | None:
        """End the run as cancelled; return when that is stored, or a future. Must not block.

        Called once, without a lock, by the cancel that has won, or in the thread of the store.
        """

    def apply_answers(self, requirements: Sequence[Requirement]) -> None:
        """Put the answers into the output. With the lock of this module held."""

    def save_answers(self) -> None:
        """Store the output with the answers that it has now, if it is stored outside of this process. May block."""

    def to_stored(self, status: RunStatus) -> StoredRun:
        """Return the run as a store takes it."""


@dataclass(slots=True)
class _Entry:
    run: PausedRun
    requirements: dict[str, Requirement]
    arrived: bool = False  #: the pause is stored, and its event is emitted
    taken: bool = False  #: the run is being continued; it is not live yet
    request: CancelRequest | None = None  #: a cancel that came before `arrived`, or after `taken`
    status: RunStatus = RunStatus.paused
    record: CancelRecord | None = None
    ended: Latch = field(default_factory=Latch)
    timer: Timer | None = None  #: of the earliest deadline


class PausedRuns:
    """The paused runs without a shared database.

    Parameters:
        clock: seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time, limit: int = LIMIT) -> None:
        self._lock = threading.Lock()
        self._clock, self._limit = clock, limit
        self._paused: dict[str, _Entry] = {}
        self._left: OrderedDict[str, tuple[list[Requirement], bool]] = OrderedDict()  #: and whether the run has ended
        self._elsewhere: OrderedDict[str, weakref.ref[Any]] = OrderedDict()  #: stores of runs that were paused here
        self._roots: OrderedDict[str, str] = OrderedDict()  #: by the ids of runs inside
        self._continuers: OrderedDict[str, Callable[[], object]] = OrderedDict()

    # -- pausing

    def expect(self, run: PausedRun, requirements: Sequence[Requirement]) -> None:
        """Take a run that is about to pause: from now on its requirements and its cancel are decided here.

        Called with the lock of the run's tree held; this lock is a leaf below it.
        """
        with self._lock:
            self._paused[run.run_id] = _Entry(run, {one.requirement_id: one for one in requirements})
            self._left.pop(run.run_id, None)
            for one in requirements:
                if one.run_id != run.run_id:  # of the agent of a step
                    self._roots[one.run_id] = run.run_id
            while len(self._roots) > REMEMBERED:
                self._roots.popitem(last=False)

    def full(self) -> bool:
        """Return whether no other run may pause."""
        return len(self._paused) >= self._limit

    def arrive(self, run_id: str) -> None:
        """Record that the pause is stored and emitted. Ends the run if it was cancelled meanwhile. Without a lock."""
        with self._lock:
            entry = self._paused.get(run_id)
            if entry is None:
                return
            entry.arrived = True
            if entry.taken:
                return
            request = entry.request
            if request is not None:
                self._leave(entry, ended=True)
            else:
                self._set_timer(entry)
        if request is not None:
            self._end(entry, request)

    def adopt(self, run: PausedRun, requirements: Sequence[Requirement]) -> None:
        """Take a paused run of an earlier process, whose store only this process uses. A second call does nothing."""
        with self._lock:
            if run.run_id not in self._paused and run.run_id not in self._left:
                known = {one.requirement_id: one for one in requirements}
                entry = self._paused[run.run_id] = _Entry(run, known, arrived=True)
                self._set_timer(entry)

    def remember_store(self, run_id: str, store: object) -> None:
        """Remember in which shared store a run of this process waits, for requests that name no database."""
        with self._lock:
            self._elsewhere[run_id] = weakref.ref(store)
            self._elsewhere.move_to_end(run_id)
            while len(self._elsewhere) > REMEMBERED:
                self._elsewhere.popitem(last=False)

    def forget_store(self, run_id: str) -> None:
        """Forget the store of a run that goes on or has ended."""
        with self._lock:
            self._elsewhere.pop(run_id, None)

    def store_of(self, run_id: str) -> Any | None:
        """Return the shared store in which a run of this process waits, or None."""
        found = self._elsewhere.get(run_id)
        return found() if found is not None else None

    # -- answers

    def requirements(self, run_id: str) -> list[Requirement]:
        """Return the requirements of a run that is or was paused here, open or not."""
        run_id = self._roots.get(run_id, run_id)
        with self._lock:
            entry = self._paused.get(run_id)
            if entry is not None:
                return [replace(one) for one in entry.requirements.values()]
            return [replace(one) for one in self._left.get(run_id, ([], False))[0]]

    def knows(self, run_id: str) -> bool:
        """Return whether a run is or was paused here."""
        return run_id in self._paused or run_id in self._left

    def answer(self, run_id: str, requirement_id: str, answer: Answer) -> AnswerReceipt:
        """Answer a requirement, once. From any thread.

        Raises:
            ConfigurationError: the answer does not fit the requirement.
        """
        run_id = self._roots.get(run_id, run_id)
        with self._lock:
            entry = self._paused.get(run_id)
            left, ended = self._left.get(run_id, ([], False))
            known = entry.requirements if entry is not None else {one.requirement_id: one for one in left}
            before = known.get(requirement_id)
            cancelled = entry is not None and entry.request is not None
            outcome, after = decide(before, answer, self._clock(), run_ended=ended or cancelled)
            if outcome is AnswerOutcome.accepted and entry is not None and after is not None and before is not None:
                check_answer(before, answer)
                entry.requirements[requirement_id] = after
                entry.run.apply_answers(list(entry.requirements.values()))
            receipt = receipt_of(outcome, run_id, requirement_id, after, known.values())
        if receipt and entry is not None:  # before the receipt is seen
            entry.run.save_answers()
        return receipt

    # -- the ends of a pause

    def take(self, run_id: str) -> tuple[StoredRun, list[Requirement]]:
        """Take a run whose requirements are all resolved, to continue it. One caller gets it.

        Raises:
            ConfigurationError: requirements are open.
            AnswerRefusedError: the run was continued already, or has ended.
        """
        with self._lock:
            entry = self._paused.get(run_id)
            if entry is None or not entry.arrived or entry.taken or entry.request is not None:
                left, ended = self._left.get(run_id, ([], False))
                found = list(entry.requirements.values()) if entry is not None else left
                ended = ended or (entry is not None and entry.request is not None)
                raise refused_continuation(run_id, found, ended=ended)
            found = list(entry.requirements.values())
            if message := open_message(run_id, found):
                raise ConfigurationError(message)
            entry.taken = True
        return entry.run.to_stored(RunStatus.paused), found

    def put_back(self, run_id: str) -> None:
        """Undo `take`: the continuation could not be started. A cancel that came meanwhile ends the run."""
        with self._lock:
            entry = self._paused.get(run_id)
            if entry is None:
                return
            entry.taken = False
        self.arrive(run_id)

    def hand_over(self, run: RunHandle) -> None:
        """Leave a run that was taken to its new `Run`, which is live now; a cancel that came meanwhile is for that."""
        with self._lock:
            entry = self._paused.get(run.run_id)
            if entry is None:
                return
            self._leave(entry, ended=False)
            request = entry.request
        if request is not None:
            run.cancel(request.reason, reach=request.reach, grace=request.grace, force=request.force)

            def settled() -> None:
                entry.status = run.scope.status
                entry.ended.set()

            run.settled.add_done_callback(settled)

    def cancel(self, run_id: str, request: CancelRequest) -> CancelReceipt | None:
        """Cancel a paused run; return None if it isn't paused here. From any thread."""
        run_id = self._roots.get(run_id, run_id)
        with self._lock:
            entry = self._paused.get(run_id)
            if entry is None:
                return None
            repeated, entry.request = entry.request is not None, entry.request or request
            arrived = entry.arrived and not entry.taken and not repeated
            if arrived:
                self._leave(entry, ended=True)
            record = entry.record = entry.record or CancelRecord.of(request.reason)
        if arrived:
            self._end(entry, request)
        outcome = Outcome.already_cancelling if repeated else Outcome.accepted
        return CancelReceipt(outcome, run_id, lambda: entry.status, record, entry.ended)

    def _set_timer(self, entry: _Entry) -> None:
        """Start the timer of the earliest deadline of a run. With the lock held."""
        if entry.timer is not None:
            entry.timer.cancel()
        found = [one.deadline for one in entry.requirements.values() if one.is_open and one.deadline is not None]
        if found:
            at = time.monotonic() + max(0.0, min(found) - self._clock())
            entry.timer = timers.call_at(at, self._fire_soon)

    def _fire_soon(self) -> None:
        """Let deadlines take effect, in a thread of their own: a store may block. In the timer thread."""
        start_daemon_thread(self._fire, "desist-deadlines")

    def _fire(self) -> None:
        for run_id in self.fire_due():
            self.resolved(run_id)

    # -- going on after a deadline

    def remember_continuer(self, run_id: str, go_on: Callable[[], object]) -> None:
        """Remember how this process continues a run whose last requirement is resolved by a deadline."""
        with self._lock:
            self._continuers[run_id] = go_on
            while len(self._continuers) > REMEMBERED:
                self._continuers.popitem(last=False)

    def resolved(self, run_id: str) -> None:
        """Continue a run after a deadline, if this process knows how; in a thread of its own."""
        with self._lock:
            go_on = self._continuers.pop(run_id, None)
        if go_on is not None:
            start_daemon_thread(lambda: _log_failure(run_id, go_on), "desist-continue")

    def fire_due(self) -> list[str]:
        """Let the deadlines that have passed take effect; return the ids of the runs that can go on now."""
        now, ready = self._clock(), list[str]()
        cancelled: list[tuple[str, Requirement]] = []
        with self._lock:
            for run_id, entry in self._paused.items():
                if entry.taken or entry.request is not None:
                    continue
                due = [one for one in entry.requirements.values() if _is_due(one, now)]
                for one in due:
                    if (one.on_timeout or "cancel") == "cancel":
                        cancelled.append((run_id, one))
                    entry.requirements[one.requirement_id] = resolve_timeout(one, now)
                if due:
                    entry.run.apply_answers(list(entry.requirements.values()))
                    if not any(one.is_open for one in entry.requirements.values()):
                        ready.append(run_id)
                self._set_timer(entry)
        for run_id, one in cancelled:
            self.cancel(run_id, timeout_request(one))
        return [run_id for run_id in ready if run_id in self._paused]

    def _leave(self, entry: _Entry, *, ended: bool) -> None:
        """Remove a run. With the lock held. What is still open is closed if the run has ended."""
        del self._paused[entry.run.run_id]
        self._continuers.pop(entry.run.run_id, None)
        if entry.timer is not None:
            entry.timer.cancel()
        found = list(entry.requirements.values())
        if ended:
            closed, now = RequirementState.closed.value, self._clock()
            found = [replace(one, state=closed, at=now) if one.is_open else one for one in found]
            entry.run.apply_answers(found)
        self._left[entry.run.run_id] = (found, ended)
        while len(self._left) > REMEMBERED:
            self._left.popitem(last=False)

    def _end(self, entry: _Entry, request: CancelRequest) -> None:
        stored: Future[None] | None = None

        def settle(done: object = None) -> None:
            entry.status = RunStatus.cancelled
            entry.ended.set()

        try:
            stored = entry.run.end_paused(request, entry.record or CancelRecord.of(request.reason))
        finally:
            settle() if stored is None else stored.add_done_callback(settle)

    def end(self, run_id: str) -> None:
        """Record that a run that was paused once has ended: later answers get `run_ended`."""
        with self._lock:
            if run_id in self._left:
                self._left[run_id] = (self._left[run_id][0], True)

    def __len__(self) -> int:
        return len(self._paused)

    def reset_after_fork(self) -> None:
        """Reset, in a forked child: the parent's runs wait in the parent."""
        self._lock = threading.Lock()
        self._paused.clear()
        self._left.clear()
        self._elsewhere.clear()
        self._continuers.clear()
        self._roots.clear()


def _log_failure(run_id: str, go_on: Callable[[], object]) -> None:
    try:
        go_on()
    except DesistError as error:  # another process or thread was first, or the run can't be continued here
        log.info("run %s was not continued after its deadline: %s", run_id, error)
    except Exception:
        log.exception("run %s could not be continued after its deadline", run_id)


def timeout_request(requirement: Requirement) -> CancelRequest:
    """Return the cancel of a run whose requirement nobody has answered in time."""
    name = requirement.asked.get("tool_name") or requirement.kind
    text = f"nobody answered in time: {name} (requirement {requirement.requirement_id})"
    return CancelRequest(reason=CancelReason(source=Source.deadline, text=text, by="desist"))


def _is_due(requirement: Requirement, now: float) -> bool:
    return requirement.is_open and requirement.deadline is not None and requirement.deadline <= now


def receipt_of(
    outcome: AnswerOutcome, run_id: str, requirement_id: str, found: Requirement | None, known: Iterable[Requirement]
) -> AnswerReceipt:
    """Return the receipt of an answer.

    Parameters:
        found: the requirement as it is then.
        known: all requirements of the run.
    """
    first = found if found is not None and not found.is_open else None
    open_ = sum(one.is_open for one in known)
    return AnswerReceipt(
        outcome=outcome,
        run_id=run_id,
        requirement_id=requirement_id,
        by=first.by if first is not None else None,
        at=first.at if first is not None else None,
        decision=(first.answer or {}).get("decision") if first is not None else None,
        open=open_,
    )


def open_message(run_id: str, requirements: Sequence[Requirement]) -> str | None:
    """Return why a run can't be continued yet, or None."""
    open_ = [one for one in requirements if one.is_open]
    if not open_:
        return None
    waiting = [f"{one.asked.get('tool_name') or one.kind} ({one.requirement_id})" for one in open_]
    return f"run {run_id} waits for {len(waiting)} more answers: {', '.join(waiting)}"


def refused_continuation(run_id: str, requirements: Sequence[Requirement], *, ended: bool) -> RunStateError:
    """Return the error of a continuation that lost: it names who has answered first."""
    last = max((one for one in requirements if one.at is not None), key=lambda one: one.at or 0.0, default=None)
    if last is None:
        return RunStateError(f"run {run_id} is not paused: there is nothing to continue")
    ran = "has ended" if ended else "was continued already"
    by = f" by {last.by}" if last.by else ""
    outcome = AnswerOutcome.run_ended if ended and last.state == "closed" else AnswerOutcome.already_answered
    receipt = receipt_of(outcome, run_id, last.requirement_id, last, requirements)
    return AnswerRefusedError(f"run {run_id} {ran}: requirement {last.requirement_id} is {last.state}{by}", receipt)


#: The paused runs of this process.
paused_runs = PausedRuns()
register_at_fork(after_in_child=paused_runs.reset_after_fork)
