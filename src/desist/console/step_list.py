"""The steps of a run as a view sees them: which ones run, since when, how many have finished."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CONTAINERS", "StepList", "StepRow"]

#: Containers whose beginning and end is told like a step's.
CONTAINERS = ("Parallel", "Loop", "Condition", "Router", "Steps")


@dataclass(slots=True)
class StepRow:
    """One step that has begun."""

    key: str  #: whose voice it is
    name: str
    depth: int
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0


class StepList:
    """All steps of one run. Times are of the events' arrival."""

    def __init__(self) -> None:
        self._open: dict[str, StepRow] = {}
        self.finished = 0

    def begin(self, event: Any) -> StepRow:
        """Note a step that begins."""
        step = StepRow(event.step_id or event.run_id or "", event.step_name or "step", event.nested_depth)
        self._open[step.key] = step
        return step

    def end(self, event: Any, state: str) -> StepRow | None:
        """Note a step's end; None for one that wasn't seen to begin."""
        step = self._open.pop(event.step_id or event.run_id or "", None)
        if step is not None:
            step.seconds = time.monotonic() - step.began
            self.finished += state == "done"
        return step

    def running(self) -> list[str]:
        """Return the names of the steps that run. From any thread."""
        return [step.name for step in list(self._open.values())]
