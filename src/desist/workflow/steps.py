"""`Steps`: some steps under one name."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from desist.agent.agent import Agent
from desist.run.cleanup import Cleanup
from desist.run.strict import Strict
from desist.run.workflow import StepsExecutionCompletedEvent, StepsExecutionStartedEvent
from desist.workflow.entries import as_steps
from desist.workflow.flow import Flow, Runnable, Spot
from desist.workflow.progress import Progress
from desist.workflow.sequence import run_sequence
from desist.workflow.types import StepInput, StepOutput, StepType

__all__ = ["Steps"]


class Steps(Strict):
    """A sequence of steps that is itself a step.

    Parameters:
        name: how it is called.
        description: what it is for.
        steps: steps, containers, agents or functions.
    """

    def __init__(
        self, name: str | None = None, description: str | None = None, steps: Sequence[Any] | None = None
    ) -> None:
        self.name = name or "Steps"
        self.description = description
        self.step_id = str(uuid.uuid4())
        self.steps: list[Runnable] = as_steps(steps or [], f"Steps {self.name!r}")

    def agents(self) -> Iterator[Agent]:
        """Name the agents in it."""
        for step in self.steps:
            yield from step.agents()

    def cleanups(self, output: StepOutput, known: dict[str, Any], *, compensate: bool) -> Iterator[Cleanup]:
        """A container has no hooks; its steps have."""
        yield from ()

    async def perform(self, given: StepInput, flow: Flow, spot: Spot, above: Progress) -> StepOutput:
        """Run the steps in their order."""
        count = len(self.steps)
        progress = flow.begin(self, spot, above, StepType.STEPS, StepsExecutionStartedEvent, steps_count=count)
        outputs = await run_sequence(self.steps, given, flow, progress, spot)
        made = StepOutput(
            step_name=self.name,
            step_id=self.step_id,
            step_type=StepType.STEPS.value,
            content=outputs[-1].content if outputs else None,
            success=all(output.success for output in outputs),
            stop=any(output.stop for output in outputs),
            steps=outputs,
        )
        event = StepsExecutionCompletedEvent(
            **progress.common, steps_count=count, executed_steps=len(outputs), step_results=outputs
        )
        return flow.end(progress, above, made, event)
