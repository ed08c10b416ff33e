"""The steps of a run as its events show them: which are running, since when, and how many have finished."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

__all__ = ["StepList", "StepRow"]


@dataclass(slots=True)
class StepRow:
    """One step that has started."""

    key: str  #: the key of its speaker
    name: str
    depth: int
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0


class StepList:
    """All steps of one run. Times are the arrival times of the events."""

    def __init__(self) -> None:
        self._open: dict[str, StepRow] = {}
        self.finished = 0

    def begin(self, event: Any) -> StepRow:
        """Record the start of a step."""
        step = StepRow(event.step_id or event.run_id or "", event.step_name or "step", event.nested_depth)
        self._open[step.key] = step
        return step

    def end(self, event: Any, state: str) -> StepRow | None:
        """Record the end of a step; return None if its start was not seen."""
        step = self._open.pop(event.step_id or event.run_id or "", None)
        if step is not None:
            step.seconds = time.monotonic() - step.began
            self.finished += state == "done"
        return step

    def running(self) -> list[str]:
        """Return the names of the running steps. Thread-safe."""
        return [step.name for step in list(self._open.values())]
