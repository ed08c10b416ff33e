"""The metrics of each step of a workflow, computed when a run ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from desist.run.outputs.workflow import StepMetrics
from desist.run.records.metrics import RunMetrics
from desist.workflow.types import StepOutput

__all__ = ["metrics_of"]


def metrics_of(outputs: Iterable[StepOutput], found: dict[str, StepMetrics] | None = None) -> dict[str, StepMetrics]:
    """Return the metrics of steps by name, also of steps inside others. The rounds of a loop are added up."""
    found = {} if found is None else found
    for output in outputs:
        name = output.step_name or ""
        step = found.get(name)
        if step is None:
            kind, who = output.executor_type, output.executor_name
            step = found[name] = StepMetrics(step_name=name, executor_type=kind, executor_name=who)
        _add(step, output)
        metrics_of(output.steps or (), found)
    return found


def _add(step: StepMetrics, output: StepOutput) -> None:
    step.runs += 1
    if output.duration is not None:
        step.duration = (step.duration or 0.0) + output.duration
    for used in _used(output):
        step.metrics = step.metrics or RunMetrics()
        _count(step.metrics, used)


def _used(output: StepOutput) -> Iterator[RunMetrics]:
    """Yield the metrics of the agents of a step, and of the steps inside it."""
    if isinstance(output.metrics, RunMetrics):
        yield output.metrics
    else:
        for inner in output.steps or ():
            yield from _used(inner)


def _count(total: RunMetrics, used: RunMetrics) -> None:
    total.add(used)
    total.model_calls += used.model_calls
    total.tool_calls += used.tool_calls
    total.duration = (total.duration or 0.0) + (used.duration or 0.0)
    if total.time_to_first_token is None:
        total.time_to_first_token = used.time_to_first_token
