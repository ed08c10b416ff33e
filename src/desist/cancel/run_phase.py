"""The internal state of a run: five small state machines beside the status, and one table of all legal moves.

The status is the outcome; the internal states are the progress of the parts of a run. They change independently:
a body may still run when its grace has expired and its end is being stored. `Scope` moves them, with the lock of the
tree held, and reads them to find the next action. The diagrams in the docs are printed from this table.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

from desist.exceptions import RunStateError

__all__ = [
    "PHASE_MOVES",
    "BodyState",
    "CleanupState",
    "ConfirmationState",
    "EndState",
    "GraceState",
    "PhaseEvent",
    "apply_event",
    "diagrams",
]


class BodyState(Enum):
    """The body: the task that does the work."""

    waiting = "waiting"  #: not begun
    running = "running"
    ended = "ended"  #: returned, raised, unwound; or cancelled before it began


class CleanupState(Enum):
    """The hooks that clean up after a cancel."""

    none = "none"
    due = "due"  #: a cancel was accepted, and the run had started
    running = "running"
    done = "done"


class GraceState(Enum):
    """The time that a cancelled run has for cleanup."""

    none = "none"  #: not cancelled
    running = "running"
    expired = "expired"  #: what still runs is abandoned


class EndState(Enum):
    """The end of the run."""

    open = "open"
    confirming = "confirming"  #: the store was asked whether the run may complete; a cancel still counts
    finalizing = "finalizing"  #: the outcome is decided, nothing is waited for: the end is being stored
    settled = "settled"  #: the end is stored and emitted


class ConfirmationState(Enum):
    """The question to the store whether the run may complete or fail. `EndConfirmation` moves this one."""

    open = "open"  #: the store has not let this process decide
    deciding = "deciding"  #: the store has: the output is being finished
    decided = "decided"  #: the output is finished; the store writes the end
    overdue = "overdue"  #: the answer timed out while deciding
    unconfirmed = "unconfirmed"  #: the answer timed out before: the end was decided without the store


class PhaseEvent(Enum):
    """What happens to a run."""

    begin = "begin"
    cancel = "cancel"  #: a request was accepted
    end_body = "end body"
    require_cleanup = "require cleanup"
    clean_up = "clean up"
    end_cleanup = "end cleanup"
    expire = "expire"
    ask = "ask"
    answer = "answer"  #: of the store: not now
    finalize = "finalize"
    settle = "settle"
    decide = "decide"
    finish_output = "finish output"
    time_out = "time out"


State = TypeVar("State", BodyState, CleanupState, GraceState, EndState, ConfirmationState)
AnyState = BodyState | CleanupState | GraceState | EndState | ConfirmationState

#: (state, event) -> state. A move that isn't here is forbidden.
PHASE_MOVES: dict[tuple[AnyState, PhaseEvent], AnyState] = {
    (BodyState.waiting, PhaseEvent.begin): BodyState.running,
    (BodyState.waiting, PhaseEvent.cancel): BodyState.ended,
    (BodyState.running, PhaseEvent.cancel): BodyState.running,
    (BodyState.ended, PhaseEvent.cancel): BodyState.ended,
    (BodyState.running, PhaseEvent.end_body): BodyState.ended,
    (CleanupState.none, PhaseEvent.require_cleanup): CleanupState.due,
    (CleanupState.due, PhaseEvent.clean_up): CleanupState.running,
    (CleanupState.running, PhaseEvent.end_cleanup): CleanupState.done,
    (GraceState.none, PhaseEvent.cancel): GraceState.running,
    (GraceState.running, PhaseEvent.expire): GraceState.expired,
    (EndState.open, PhaseEvent.ask): EndState.confirming,
    (EndState.confirming, PhaseEvent.answer): EndState.open,
    (EndState.open, PhaseEvent.finalize): EndState.finalizing,
    (EndState.confirming, PhaseEvent.finalize): EndState.finalizing,
    (EndState.finalizing, PhaseEvent.settle): EndState.settled,
    (ConfirmationState.open, PhaseEvent.decide): ConfirmationState.deciding,
    (ConfirmationState.open, PhaseEvent.time_out): ConfirmationState.unconfirmed,
    (ConfirmationState.deciding, PhaseEvent.finish_output): ConfirmationState.decided,
    (ConfirmationState.deciding, PhaseEvent.time_out): ConfirmationState.overdue,
    (ConfirmationState.overdue, PhaseEvent.finish_output): ConfirmationState.overdue,
}


def apply_event(run_id: str, state: State, event: PhaseEvent) -> State:
    """Return the state that `event` leads to.

    Raises:
        RunStateError: the table has no such move; the message names run, state and event.
    """
    try:
        return PHASE_MOVES[state, event]  # type: ignore[return-value]  # a move stays in its machine: see the test
    except KeyError:
        machine = type(state).__name__
        legal = ", ".join(known.value for at, known in PHASE_MOVES if at is state) or "none"
        raise RunStateError(
            f"run {run_id}: {machine} is '{state.value}': '{event.value}' is not possible (possible: {legal})"
        ) from None


def diagrams() -> dict[str, str]:
    """Return a Mermaid state diagram for each machine, by its name."""
    made: dict[str, str] = {}
    for machine in (BodyState, CleanupState, GraceState, EndState, ConfirmationState):
        first = next(iter(machine))
        lines = ["stateDiagram-v2", f"    [*] --> {first.value}"]
        for (at, event), to in PHASE_MOVES.items():
            if isinstance(at, machine) and at is not to:
                lines.append(f"    {at.value} --> {to.value}: {event.value}")
        made[machine.__name__] = "\n".join(lines)
    return made
