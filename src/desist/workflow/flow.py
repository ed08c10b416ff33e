"""What the steps of one run share, and what a step is to whoever runs it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from desist.run.cleanup import Cleanup
from desist.run.context import RunContext
from desist.run.driver import Run
from desist.run.place import Place
from desist.run.step_events import StepStartedEvent
from desist.run.workflow_event import BaseStepEvent, StepIndex
from desist.workflow.kept import keep_step
from desist.workflow.progress import Progress
from desist.workflow.types import StepInput, StepOutput, StepType

if TYPE_CHECKING:
    from desist.agent.agent import Agent

__all__ = ["Flow", "Runnable", "Spot"]

log = logging.getLogger("desist.workflow")


@dataclass(slots=True, frozen=True)
class Spot:
    """Where a step stands among the others."""

    index: StepIndex
    parent_step_id: str | None = None
    depth: int = 0


class Runnable(Protocol):
    """A step or container."""

    name: str
    step_id: str

    async def perform(self, given: StepInput, flow: Flow, spot: Spot, above: Progress) -> StepOutput:
        """Do the step; note it in `above` while it runs and when it has ended."""

    def agents(self) -> Iterator[Agent]:
        """Name the agents in it, so that what they lack is known before anything runs."""

    def cleanups(self, output: StepOutput, known: dict[str, Any], *, compensate: bool) -> Iterator[Cleanup]:
        """Name the hooks that are due for what it made: its compensation, or what is to be done when interrupted."""


@dataclass(slots=True)
class Flow:
    """One run of a workflow, as its steps see it."""

    run: Run
    place: Place
    context: RunContext
    common: dict[str, Any]  #: what every event carries
    listened: bool
    stream_events: bool
    agent_runs: list[Any] = field(default_factory=list)
    begun: list[tuple[Runnable, Progress]] = field(default_factory=list)  #: in the order in which they began

    def begin(
        self,
        step: Runnable,
        spot: Spot,
        above: Progress,
        kind: StepType,
        event: type[BaseStepEvent] = StepStartedEvent,
        **told: Any,
    ) -> Progress:
        """A step or container begins: tell it, by an `event` that says `told`, and note it."""
        common = {
            **self.common,
            "step_id": step.step_id,
            "parent_step_id": spot.parent_step_id,
            "nested_depth": spot.depth,
            "step_name": step.name,
            "step_index": spot.index,
        }
        progress = Progress(common, kind.value)

        def note() -> None:
            above.open.append(progress)
            self.begun.append((step, progress))

        self.run.emit(event(**common, **told), note)
        log.debug("run %s: %s %r begins", self.run.run_id, kind.value, step.name, extra=self.run.ids)
        if self.run.spans is not None:
            self.run.spans.begin_step(progress, kind.value, common)
        return progress

    def end(self, progress: Progress, above: Progress, output: StepOutput, event: BaseStepEvent) -> StepOutput:
        """It has ended: tell it and keep what it made."""

        def keep() -> None:
            above.open.remove(progress)
            above.done.append(output)
            progress.output = output

        self.run.emit(event, keep)
        keep_step(self.run, output, above)
        name = progress.common["step_name"]
        log.debug("run %s: %s has ended: %s", self.run.run_id, name, event.event, extra=self.run.ids)
        if self.run.spans is not None:
            self.run.spans.end_step(progress, error=output.error, cancelled=output.cancelled)
        return output
