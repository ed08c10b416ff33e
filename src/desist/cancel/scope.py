"""The tree of runs and every decision about it. Pure: no loop, no thread, no lock, no I/O.

A `Scope` is one run as the decisions see it. The caller holds the lock of the tree, so each method is one step. What
follows from a decision (interrupt, store, emit) is returned, never done here. The tests walk every interleaving of
these methods on small trees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, Literal, TypeVar

from desist.cancel.reason import CancelReason, Source
from desist.cancel.run_phase import BodyState, CleanupState, EndState, GraceState, PhaseEvent, apply_event
from desist.cancel.status import RunStatus, Transition, apply_transition

__all__ = ["CancelDecision", "NextAction", "Outcome", "Reach", "Scope"]

#: The class of the run that a scope belongs to. This package must not know it.
Owner = TypeVar("Owner", covariant=True)

#: How far a request goes: the whole tree; or the named run and those below it; or, from inside the library, "own": the
#: same, and the code that started the run handles it (a timeout of a step, a reader that left).
Reach = Literal["tree", "run", "own"]


class Outcome(str, Enum):
    """How a cancel request was answered."""

    accepted = "accepted"
    already_cancelling = "already_cancelling"
    already_cancelled = "already_cancelled"
    finished = "finished"  #: the run ended otherwise, before the request
    unknown = "unknown"  #: no such run; the intent is kept for a while


class NextAction(Enum):
    """What a run's owner must do now."""

    wait = "wait"
    clean_up = "clean up"  #: all work has ended: run the cleanup hooks
    confirm_end = "confirm end"  #: all work has ended: ask the store, where another process may have cancelled the run
    cancel_children = "cancel children"  #: the body has ended before its children: cancel and join them
    finalize = "finalize"  #: the outcome is decided and nothing is left running: store and emit the end


#: What a cancel can still decide about.
_OPEN = (RunStatus.running, RunStatus.pending)


@dataclass(slots=True)
class CancelDecision(Generic[Owner]):
    """The answer to a request: the run that it decided about, and the runs to interrupt, children first."""

    outcome: Outcome
    target: Scope[Owner]
    cancelled: list[Scope[Owner]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Scope(Generic[Owner]):
    """One run in the tree."""

    run_id: str
    parent: Scope[Owner] | None = None
    bound: bool = False  #: a step of the parent waits for it, and is cancelled with it
    detached: bool = False  #: ... unless that step says on_cancel="skip"
    status: RunStatus = RunStatus.pending
    reason: CancelReason | None = None
    children: dict[str, Scope[Owner]] = field(default_factory=dict)  #: those that haven't settled
    work: set[Any] = field(default_factory=set)  #: calls that still run
    body: BodyState = BodyState.waiting
    failed: bool = False  #: whether the body raised
    pausing: bool = False  #: whether the body ended to wait for a human: then the run pauses instead of completing
    cleanup: CleanupState = CleanupState.none
    grace: GraceState = GraceState.none
    end: EndState = EndState.open
    needs_confirmation: bool = False  #: the store decides whether it completes: other processes may cancel it
    owner: Owner = None  # type: ignore[assignment]  # tests of the decisions alone have no owners

    def add_child(self, child: Scope[Owner]) -> None:
        """Make `child` part of this tree. Under a cancelled run it is born cancelled; it never starts (guarantee 4)."""
        if self.status in (RunStatus.completed, RunStatus.error, RunStatus.paused):
            return  # the parent has already ended: the child becomes a root of its own
        child.parent = self
        if not self.finalizing:
            self.children[child.run_id] = child
        if self.status in (RunStatus.cancelling, RunStatus.cancelled):
            assert self.reason is not None
            child._cancel_subtree(self.reason.derived(Source.parent))

    @property
    def root(self) -> Scope[Owner]:
        """The run at the top of the tree."""
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope

    @property
    def grace_expired(self) -> bool:
        """Whether the grace is over: what still runs is abandoned."""
        return self.grace is GraceState.expired

    @property
    def finalizing(self) -> bool:
        """Whether the end is being stored, or is stored: no cancel, child or grace changes it any more."""
        return self.end is EndState.finalizing or self.end is EndState.settled

    def require_cleanup(self) -> None:
        """Have the cleanup hooks run before the end. For a cancelled run that has started; once."""
        self.cleanup = apply_event(self.run_id, self.cleanup, PhaseEvent.require_cleanup)

    def end_cleanup(self) -> None:
        """Record that the cleanup hooks have ended."""
        self.cleanup = apply_event(self.run_id, self.cleanup, PhaseEvent.end_cleanup)

    @property
    def accepts_results(self) -> bool:
        """Whether content, results and new work are still taken from this run."""
        return self.status is RunStatus.running

    def begin(self) -> bool:
        """Start the body; return False if the run was cancelled before, and the body must not start."""
        if self.status is not RunStatus.pending:
            return False
        self.status = apply_transition(self.run_id, self.status, Transition.start)
        self.body = apply_event(self.run_id, self.body, PhaseEvent.begin)
        return True

    def request(self, reason: CancelReason, reach: Reach = "tree") -> CancelDecision[Owner]:
        """Decide about a cancel request: THE decision, cancel against completion.

        A second request changes nothing: its answer says so, and names the same target.
        """
        target = self.root if reach == "tree" else self
        if target.status is RunStatus.paused:  # the record of the paused run decides, not this scope
            return CancelDecision(Outcome.unknown, target)
        if target.status.is_final or target.status is RunStatus.cancelling:
            return CancelDecision(_answer(target.status), target)
        cancelled = target._cancel_subtree(reason)
        scope: Scope[Owner] = target
        while reach == "run" and (parent := scope._parent_that_must_stop(reason)) is not None:
            for sibling in list(parent.children.values()):
                cancelled += sibling._cancel_subtree(reason.derived(Source.sibling))
            parent._mark_cancelling(reason.derived(Source.child))
            cancelled.append(parent)
            scope = parent
        return CancelDecision(Outcome.accepted, target, cancelled)

    def _parent_that_must_stop(self, reason: CancelReason) -> Scope[Owner] | None:
        """Return the parent if it can't go on without this run, which was cancelled alone (guarantee 8)."""
        parent = self.parent
        if parent is None or self.detached:
            return None
        if parent.status.is_final or parent.status is RunStatus.cancelling:
            return None
        return parent if self.bound or reason.source is Source.user else None

    def _cancel_subtree(self, reason: CancelReason) -> list[Scope[Owner]]:
        """Cancel this run and all below it; return those that were live, children first."""
        cancelled: list[Scope[Owner]] = []
        open_, below = [self], reason.derived(Source.parent)
        while open_:  # no recursion: a tree may be deeper than Python's stack
            scope = open_.pop()
            if scope.status in _OPEN:
                scope._mark_cancelling(reason if scope is self else below)
                cancelled.append(scope)
                open_ += scope.children.values()
        cancelled.reverse()
        return cancelled

    def _mark_cancelling(self, reason: CancelReason) -> None:
        if self.status not in _OPEN:
            apply_transition(self.run_id, self.status, Transition.cancel)  # raises
        # Without the tables, because there may be thousands of runs: every live status and state has this move.
        if self.body is BodyState.waiting:
            self.body = BodyState.ended
        self.grace = GraceState.running
        self.status = RunStatus.cancelling
        self.reason = reason  # last: the tokens of the run read the reason

    def end_body(self, *, failed: bool = False, pausing: bool = False) -> None:
        """Record that the body has ended: it returned, raised, was unwound by a cancel, or waits for a human."""
        self.body = apply_event(self.run_id, self.body, PhaseEvent.end_body)
        self.failed, self.pausing = failed, pausing

    def advance(self) -> NextAction:
        """Return the next action for this run. Decides completion and failure once all children have settled.

        An action is returned once: the state that led to it is left.
        """
        if self.finalizing or not (self.body is BodyState.ended or self.grace_expired):
            return NextAction.wait
        if self.children:
            return NextAction.cancel_children if self.status is RunStatus.running else NextAction.wait
        if self.status is RunStatus.cancelling:
            if not self.grace_expired and (self.work or self.cleanup is CleanupState.running):
                return NextAction.wait
            if not self.grace_expired and self.cleanup is CleanupState.due:
                self.cleanup = apply_event(self.run_id, self.cleanup, PhaseEvent.clean_up)
                return NextAction.clean_up
        elif self.needs_confirmation:
            if self.end is EndState.confirming:
                return NextAction.wait
            self.end = apply_event(self.run_id, self.end, PhaseEvent.ask)
            return NextAction.confirm_end
        else:
            self._decide_outcome()
        self.end = apply_event(self.run_id, self.end, PhaseEvent.finalize)
        return NextAction.finalize

    def _decide_outcome(self) -> None:
        signal = Transition.fail if self.failed else Transition.pause if self.pausing else Transition.complete
        self.status = apply_transition(self.run_id, self.status, signal)

    def confirm(self) -> bool:
        """Decide completion, failure or pause, unless a cancel or child came first; return whether that was decided.

        Called while the store holds the record, so that no other process decides. After False, `advance` asks again.
        """
        if self.end is EndState.confirming:
            self.end = apply_event(self.run_id, self.end, PhaseEvent.answer)
        if self.status is not RunStatus.running or self.children or self.finalizing:
            return False
        self._decide_outcome()
        self.end = apply_event(self.run_id, self.end, PhaseEvent.finalize)
        return True

    def cancel_children(self) -> list[Scope[Owner]]:
        """Cancel the children that outlive the body; return the runs to interrupt."""
        reason = CancelReason(source=Source.parent, text="the run that it was started in has ended")
        return [scope for child in list(self.children.values()) for scope in child._cancel_subtree(reason)]

    def expire_grace(self) -> list[Scope[Owner]]:
        """Expire the grace of cancelled runs that aren't finalizing; return those, children first. Each only once."""
        stopping = (scope for scope in self.walk() if scope.status is RunStatus.cancelling)
        late = [scope for scope in stopping if not (scope.finalizing or scope.grace_expired)]
        for scope in late:
            scope.grace = apply_event(scope.run_id, scope.grace, PhaseEvent.expire)
        return late

    def settle(self) -> None:
        """Record that the end is stored; the caller emits it in the same step."""
        if self.status is RunStatus.cancelling:
            self.status = apply_transition(self.run_id, self.status, Transition.settle)
        self.end = apply_event(self.run_id, self.end, PhaseEvent.settle)
        if self.parent is not None:
            self.parent.children.pop(self.run_id, None)

    def end_paused(self, reason: CancelReason) -> None:
        """Record that the paused run was cancelled: nothing is to be stopped."""
        self.status = apply_transition(self.run_id, self.status, Transition.cancel)
        self.reason = reason
        self.status = apply_transition(self.run_id, self.status, Transition.settle)

    def walk(self) -> Iterator[Scope[Owner]]:
        """Return an iterator over the live runs from here down, children first."""
        found, open_ = [], [self]
        while open_:
            scope = open_.pop()
            found.append(scope)
            open_ += list(scope.children.values())
        return reversed(found)


def _answer(status: RunStatus) -> Outcome:
    if status is RunStatus.cancelling:
        return Outcome.already_cancelling
    return Outcome.already_cancelled if status is RunStatus.cancelled else Outcome.finished
