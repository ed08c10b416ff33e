"""The tree of runs and every decision about it. Pure: no loop, no thread, no lock, no I/O.

A `Scope` is one run as the decisions see it. Whoever calls holds the lock of the tree, so each method is one step;
what must be done about a decision (interrupt, store, tell) is returned, never done here. The tests walk every
interleaving of these methods on small trees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from desist.cancel.reason import CancelReason, Source
from desist.cancel.status import RunStatus, Transition, apply_transition

__all__ = ["CancelDecision", "CleanupState", "NextAction", "Outcome", "Reach", "Scope"]

#: How far a request goes: the whole tree; or the run it names and what hangs below it; or, from inside the library,
#: "own": the same, and whoever started that run deals with it (a timeout of a step, a reader that left).
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
    clean_up = "tidy"  #: the work is gone: run the hooks that clean up
    confirm_end = (
        "ask"  #: all is through: ask the store, where another process may have cancelled it, whether that counts
    )
    cancel_children = "reap"  #: the body is through, children aren't: cancel and join them
    finalize = "conclude"  #: the outcome is decided and nothing is left running: record it, tell it


#: What a cancel can still decide about.
_OPEN = (RunStatus.running, RunStatus.pending, RunStatus.paused)


class BodyState(Enum):
    """Where the work itself stands."""

    waiting = "waiting"
    running = "running"
    ended = "ended"


class CleanupState(Enum):
    """Where cleaning up stands."""

    none = "none"
    due = "due"  #: there are hooks for the case of a cancel
    running = "running"
    done = "done"


@dataclass(slots=True)
class CancelDecision:
    """The answer to a request: the run that it decided about, and whom to interrupt, children first."""

    outcome: Outcome
    target: Scope
    cancelled: list[Scope] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Scope:
    """One run in the tree."""

    run_id: str
    parent: Scope | None = None
    bound: bool = False  #: a step of the parent stands and falls with it
    detached: bool = False  #: ... unless that step says on_cancel="skip"
    status: RunStatus = RunStatus.pending
    reason: CancelReason | None = None
    children: dict[str, Scope] = field(default_factory=dict)  #: those that haven't told their end
    work: set[Any] = field(default_factory=set)  #: blocking calls that still run
    body: BodyState = BodyState.waiting
    failed: bool = False
    cleanup: CleanupState = CleanupState.none
    grace_expired: bool = False  #: the grace is over: what still runs is abandoned
    finalizing: bool = False  #: somebody records and tells the end
    needs_confirmation: bool = (
        False  #: other processes may cancel it: whether it ends otherwise is decided where its record is
    )
    awaiting_confirmation: bool = False  #: it waits for that; a cancel from here still counts
    owner: Any = None

    def add_child(self, child: Scope) -> None:
        """Make `child` part of this tree. Under a cancelled run it is born cancelled; it never starts (guarantee 4)."""
        if self.status in (RunStatus.completed, RunStatus.error):
            return  # a stray of a run that is over: it stands alone
        child.parent = self
        if not self.finalizing:
            self.children[child.run_id] = child
        if self.status in (RunStatus.cancelling, RunStatus.cancelled):
            assert self.reason is not None
            child._cancel_subtree(self.reason.derived(Source.parent))

    @property
    def root(self) -> Scope:
        """The run at the top of the tree."""
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope

    @property
    def accepts_results(self) -> bool:
        """Whether content, results and new work are still taken from this run."""
        return self.status is RunStatus.running

    def begin(self) -> bool:
        """The body wants to start. False: it was cancelled before, and must not."""
        if self.status is not RunStatus.pending:
            return False
        self.status = apply_transition(self.run_id, self.status, Transition.start)
        self.body = BodyState.running
        return True

    def request(self, reason: CancelReason, reach: Reach = "tree") -> CancelDecision:
        """THE decision: cancel against completion."""
        target = self.root if reach == "tree" else self
        if target.status.is_final or target.status is RunStatus.cancelling:
            return CancelDecision(_answer(target.status), target)
        hits = target._cancel_subtree(reason)
        scope = target
        while reach == "run" and (parent := scope._parent_that_must_stop(reason)) is not None:
            for sibling in list(parent.children.values()):
                hits += sibling._cancel_subtree(reason.derived(Source.sibling))
            parent._mark_cancelling(reason.derived(Source.child))
            hits.append(parent)
            scope = parent
        return CancelDecision(Outcome.accepted, target, hits)

    def _parent_that_must_stop(self, reason: CancelReason) -> Scope | None:
        """Return the parent if it can't go on without this run, which was cancelled by itself (guarantee 8)."""
        parent = self.parent
        if parent is None or self.detached:
            return None
        if parent.status.is_final or parent.status is RunStatus.cancelling:
            return None
        return parent if self.bound or reason.source is Source.user else None

    def _cancel_subtree(self, reason: CancelReason) -> list[Scope]:
        """Cancel this run and all below it; return those that it decided, children first."""
        hits: list[Scope] = []
        open_, below = [self], reason.derived(Source.parent)
        while open_:  # no recursion: a tree may be deeper than Python's stack
            scope = open_.pop()
            if scope.status in _OPEN:
                scope._mark_cancelling(reason if scope is self else below)
                hits.append(scope)
                open_ += scope.children.values()
        hits.reverse()
        return hits

    def _mark_cancelling(self, reason: CancelReason) -> None:
        if self.body is BodyState.waiting:
            self.body = BodyState.ended
        if self.status not in _OPEN:
            apply_transition(
                self.run_id, self.status, Transition.cancel
            )  # an error: not asked each time, for there may be thousands
        self.status = RunStatus.cancelling
        self.reason = reason  # from here on its tokens say so, too

    def end_body(self, *, failed: bool = False) -> None:
        """The body is through: it returned, raised, or was unwound by a cancel."""
        self.body = BodyState.ended
        self.failed = failed

    def advance(self) -> NextAction:
        """Say what is due. Decides completion and failure, once the children have told their end."""
        if self.finalizing or not (self.body is BodyState.ended or self.grace_expired):
            return NextAction.wait
        if self.children:
            return NextAction.cancel_children if self.status is RunStatus.running else NextAction.wait
        if self.status is RunStatus.cancelling:
            if not self.grace_expired and (self.work or self.cleanup is CleanupState.running):
                return NextAction.wait
            if not self.grace_expired and self.cleanup is CleanupState.due:
                self.cleanup = CleanupState.running
                return NextAction.clean_up
        elif self.needs_confirmation:
            if self.awaiting_confirmation:
                return NextAction.wait
            self.awaiting_confirmation = True
            return NextAction.confirm_end
        else:
            self._end()
        self.finalizing = True
        return NextAction.finalize

    def _end(self) -> None:
        self.status = apply_transition(
            self.run_id, self.status, Transition.fail if self.failed else Transition.complete
        )

    def confirm(self) -> bool:
        """Decide completion or failure, unless something came in between.

        Called while whoever holds the record lets no other process decide.
        """
        self.awaiting_confirmation = False
        if self.status is not RunStatus.running or self.children or self.finalizing:
            return False
        self._end()
        self.finalizing = True
        return True

    def cancel_children(self) -> list[Scope]:
        """Cancel the children that outlive the body; return whom to interrupt."""
        reason = CancelReason(source=Source.parent, text="the run that it was started in has ended")
        return [hit for child in list(self.children.values()) for hit in child._cancel_subtree(reason)]

    def expire_grace(self) -> list[Scope]:
        """The grace is over: give up what still runs; return those runs, children first."""
        stopping = (scope for scope in self.walk() if scope.status is RunStatus.cancelling)
        late = [scope for scope in stopping if not (scope.finalizing or scope.grace_expired)]
        for scope in late:
            scope.grace_expired = True
        return late

    def settle(self) -> None:
        """The end is stored and told."""
        if self.status is RunStatus.cancelling:
            self.status = apply_transition(self.run_id, self.status, Transition.settle)
        if self.parent is not None:
            self.parent.children.pop(self.run_id, None)

    def walk(self) -> Iterator[Scope]:
        """All live runs from here down, children first."""
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
