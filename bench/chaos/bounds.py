"""What isn't promised, as bounds: for how long after its fault, and how often for each. docs/durability.md states the
same. Whatever is beyond one of these breaks a rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["BACK", "BOUNDS", "CAUGHT", "LOGGED", "RECORDED", "UNSTORED", "WOKEN", "Bound", "Excuse", "Excuses", "Span"]

#: Seconds after its receipt in which a freeze, or a fault of the database, catches a cancel from the run's own process
#: before it is recorded.
RECORDED = 1.0
#: Seconds after a fault in which an end may still be told as not stored: a write that failed is tried again within one.
UNSTORED = 3.0
#: Seconds in which a worker finds out which runs it has lost: after it has woken; after the database is back, which it
#: tries once a second at least.
WOKEN, BACK = 0.5, 1.5
#: Seconds after it has woken in which a worker begins a step at whose threshold it was frozen.
CAUGHT = 0.05
#: Seconds after a fault in which the log names it: the worker first writes what it had to write before.
LOGGED = 5.0


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
    """One thing that isn't promised. How long after its fault it may happen is decided in `excuses`."""

    words: str
    times: int  #: for each fault, at most


BOUNDS = {
    "unrecorded_cancel": Bound("own cancels whose process died or froze before they were recorded", 3),
    "unrecorded_start": Bound("runs begun while the disk was full, whose process died before their end", 3),
    "unrecorded_intent": Bound("cancels before a start that the full disk didn't record", 3),
    "unstored_end": Bound("ends told as not stored", 12),
    "lost": Bound("runs that a worker without a lease lost, and said so", 12),
    "cancelled_twice": Bound("told as cancelled by a worker without a lease, too", 3),
    "late_step": Bound("steps begun by a worker without a lease", 3),
    "logged": Bound("errors in the log that name a fault", 30),
}


@dataclass(frozen=True, slots=True)
class Excuse:
    """A case of what isn't promised, and the fault that it is due to."""

    bound: str
    run_id: str
    cause: Span
    late: float  #: seconds after the fault, or before it; 0 during the fault


class Excuses:
    """All cases that were found."""

    def __init__(self) -> None:
        self.found: list[Excuse] = []

    def add(self, bound: str, run_id: str, cause: Span, at: float) -> None:
        """Count a case that happened at this time: after the fault, or before the fault that caught it."""
        self.found.append(Excuse(bound, run_id, cause, max(0.0, at - cause.end, cause.begin - at)))

    @property
    def too_many(self) -> Iterator[str]:
        """What has happened more often than its bound says."""
        for (bound, cause), times in Counter((one.bound, one.cause) for one in self.found).items():
            most = BOUNDS[bound].times
            if times > most:
                yield f"{times} {BOUNDS[bound].words} after one {cause.kind}: {most} at most"

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
