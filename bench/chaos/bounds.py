"""What isn't promised, as bounds: for how long after which fault, and how often for each fault. docs/durability.md
states the same. Whatever is beyond one of these breaks a rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["BOUNDS", "RECORDED", "UNSTORED", "WOKEN", "Bound", "Excuse", "Excuses", "Span"]

#: Seconds after a receipt, or after the end of a fault of the database, in which a cancel from the run's own process is
#: recorded.
RECORDED = 0.5
#: Seconds after a fault in which an end may still be told as not stored: a write that failed is tried again within one.
UNSTORED = 1.5
#: Seconds after it has woken, or can reach the database again, in which a worker finds out which runs it has lost.
WOKEN = 0.5


@dataclass(frozen=True, slots=True)
class Span:
    """A fault: its kind, when it began and ended, and the process that it was about, if it was about one."""

    kind: str
    begin: float
    end: float
    child: int | None = None

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Bound:
    """One thing that isn't promised."""

    words: str
    seconds: float  #: after the fault, at most
    times: int  #: for each fault, at most


BOUNDS = {
    "unrecorded_cancel": Bound("own cancels whose process died or froze before they were recorded", RECORDED, 2),
    "unrecorded_start": Bound("runs begun while the disk was full, whose process died before their end", UNSTORED, 3),
    "unrecorded_intent": Bound("cancels before a start that the full disk didn't record", UNSTORED, 3),
    "unstored_end": Bound("ends told as not stored", UNSTORED, 12),
    "lost": Bound("runs that a worker without a lease lost, and said so", WOKEN, 12),
    "cancelled_twice": Bound("told as cancelled by a worker without a lease, too", WOKEN, 3),
    "late_step": Bound("steps begun by a worker as it woke", WOKEN, 3),
    "logged": Bound("errors in the log that name a fault", UNSTORED, 30),
}


@dataclass(frozen=True, slots=True)
class Excuse:
    """A case of what isn't promised, and the fault that it is due to."""

    bound: str
    run_id: str
    cause: Span
    late: float  #: seconds after the fault; 0 during the fault


class Excuses:
    """All cases that were found."""

    def __init__(self) -> None:
        self.found: list[Excuse] = []

    def add(self, bound: str, run_id: str, cause: Span, at: float) -> None:
        """Count a case that happened at this time."""
        self.found.append(Excuse(bound, run_id, cause, max(0.0, at - cause.end)))

    @property
    def too_many(self) -> Iterator[str]:
        """What has happened more often than its bound says, or later."""
        for (bound, cause), times in Counter((one.bound, one.cause) for one in self.found).items():
            most = BOUNDS[bound].times
            if times > most:
                yield f"{times} {BOUNDS[bound].words} after one {cause.kind}: {most} at most"
        for one in self.found:
            if one.late > BOUNDS[one.bound].seconds:
                yield f"{BOUNDS[one.bound].words}: {one.late:.3f} s after a {one.cause.kind}"

    def figures(self) -> dict[str, dict[str, float]]:
        """Return of each bound how often there was a case, for one fault at most, and how late the latest was."""
        figures: dict[str, dict[str, float]] = {}
        for bound in BOUNDS:
            cases = [one for one in self.found if one.bound == bound]
            if cases:
                most = max(Counter(one.cause for one in cases).values())
                latest = round(max(one.late for one in cases), 3)
                figures[bound] = {"cases": len(cases), "for one fault": most, "latest": latest}
        return figures
