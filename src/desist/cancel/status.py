"""The statuses of a run, and the table of all legal moves between them.

The diagram in the docs is generated from this table (`python -m desist.cancel.status`).
"""

from __future__ import annotations

from enum import Enum

from desist.exceptions import RunStateError

__all__ = ["MOVES", "RunStatus", "Transition", "apply_transition", "diagram"]


class RunStatus(str, Enum):
    """The status of a run. Values are upper-case names, as they are stored and sent."""

    pending = "PENDING"
    running = "RUNNING"
    paused = "PAUSED"
    cancelling = "CANCELLING"  #: the outcome is decided; work is being stopped
    cancelled = "CANCELLED"
    completed = "COMPLETED"
    error = "ERROR"
    regenerated = "REGENERATED"  #: replaced by a later run of the same input

    @property
    def is_final(self) -> bool:
        """Whether the run has ended. A final status changes only to `regenerated`."""
        return self in _FINAL


_FINAL = frozenset({RunStatus.cancelled, RunStatus.completed, RunStatus.error, RunStatus.regenerated})


class Transition(str, Enum):
    """An event that changes the status of a run."""

    start = "start"
    pause = "pause"
    resume = "resume"
    cancel = "cancel"  #: a request was accepted
    settle = "settle"  #: all work has stopped or was abandoned
    complete = "complete"
    fail = "fail"


#: (status, signal) -> status. A move that is not here is forbidden.
MOVES: dict[tuple[RunStatus, Transition], RunStatus] = {
    (RunStatus.pending, Transition.start): RunStatus.running,
    (RunStatus.pending, Transition.cancel): RunStatus.cancelling,
    (RunStatus.pending, Transition.fail): RunStatus.error,
    (RunStatus.running, Transition.pause): RunStatus.paused,
    (RunStatus.running, Transition.cancel): RunStatus.cancelling,
    (RunStatus.running, Transition.complete): RunStatus.completed,
    (RunStatus.running, Transition.fail): RunStatus.error,
    (RunStatus.paused, Transition.resume): RunStatus.running,
    (RunStatus.paused, Transition.cancel): RunStatus.cancelling,
    (RunStatus.cancelling, Transition.settle): RunStatus.cancelled,
}


def apply_transition(run_id: str, status: RunStatus, signal: Transition) -> RunStatus:
    """Return the status that `signal` leads to.

    Raises:
        RunStateError: the table has no such move; the message names run, status and signal.
    """
    try:
        return MOVES[status, signal]
    except KeyError:
        legal = ", ".join(s.value for at, s in MOVES if at is status) or "none: it has ended"
        raise RunStateError(
            f"run {run_id} is {status.value}: '{signal.value}' is not possible (possible: {legal})"
        ) from None


def diagram() -> str:
    """Return the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> PENDING"]
    lines += [f"    {at.value} --> {to.value}: {signal.value}" for (at, signal), to in MOVES.items()]
    lines += [f"    {s.value} --> [*]" for s in (RunStatus.cancelled, RunStatus.completed, RunStatus.error)]
    return "\n".join(lines)


if __name__ == "__main__":
    print(diagram())
