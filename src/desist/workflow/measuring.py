"""What the steps of a run used, by name. Called once, when a workflow's run ends, before what is open is closed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from desist.run.metrics import RunMetrics
from desist.run.workflow import WorkflowMetrics
from desist.workflow.progress import Progress
from desist.workflow.types import StepOutput

__all__ = ["step_metrics"]


def step_metrics(progress: Progress, begun: Iterable[tuple[object, Progress]]) -> dict[str, Any]:
    """Return what each step in the workflow's own list used, those that are still open too.

    An agent's or workflow's is what its run counted; a function has its seconds; a container has its seconds, and the
    tokens and calls of all that is in it. What was taken over from an earlier run has no seconds in this one.
    """
    own = [part for _, part in begun if part.above is progress]
    seconds = {part.common["step_name"]: part.seconds for part in own}
    made = [*progress.done, *(part.interrupted() for part in progress.open)]
    told = {step.step_name or "": step.metrics or _total(step, seconds.get(step.step_name or "")) for step in made}
    return {name: used for name, used in told.items() if used is not None}


def _total(step: StepOutput, seconds: float | None) -> RunMetrics | None:
    if seconds is None:
        return None
    total = RunMetrics(duration=seconds)
    for used in _inside(step.steps or ()):
        total.add(used)
        total.model_calls += used.model_calls
        total.tool_calls += used.tool_calls
    return total


def _inside(steps: Iterable[StepOutput]) -> Iterator[RunMetrics]:
    for step in steps:
        if isinstance(step.metrics, RunMetrics):
            yield step.metrics
        elif isinstance(step.metrics, WorkflowMetrics):
            yield from (used for used in step.metrics.steps.values() if isinstance(used, RunMetrics))
        else:
            yield from _inside(step.steps or ())
