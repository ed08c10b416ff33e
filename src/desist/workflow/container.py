"""`Container`: the base of all containers: begin, end, failure, and running the steps inside.

A subclass only decides, in `work`, which of its steps run, in which order, with which input.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from desist.agent.agent import Agent
from desist.exceptions import ConfigurationError
from desist.run.events.steps import StepCompletedEvent
from desist.run.events.workflow_base import BaseStepEvent
from desist.run.execution.cleanup import CleanupHook
from desist.run.options.strict import reject_unknown_options
from desist.run.records.json_values import error_text
from desist.workflow.checkpoints import checkpoint_started
from desist.workflow.execution import Runnable, StepPosition, WorkflowExecution
from desist.workflow.human_gate import Passed, pass_gate, skipped
from desist.workflow.human_review import HumanReview, review_of
from desist.workflow.sequence import run_sequence
from desist.workflow.step_list import coerce_steps
from desist.workflow.step_state import StepState
from desist.workflow.types import MEDIA, StepInput, StepOutput, StepType

__all__ = ["Container", "ContainerRun"]


@dataclass(slots=True)
class ContainerRun:
    """One execution of a container."""

    given: StepInput
    flow: WorkflowExecution
    position: StepPosition
    progress: StepState
    earlier_output: StepOutput | None  #: its partial output in the run that is continued
    passed: Passed = field(default_factory=Passed)  #: what a human has decided

    @property
    def earlier_outputs(self) -> list[StepOutput]:
        """The outputs of its steps in the earlier run."""
        return (self.earlier_output.steps or []) if self.earlier_output is not None else []

    def emit(self, event: type[BaseStepEvent], **fields: Any) -> None:
        """Emit an event of this container."""
        self.flow.run.emit(event(**self.progress.common, **fields))

    def begin(self, event: type[BaseStepEvent], chosen: list[str] | None = None, **fields: Any) -> None:
        """Emit the started event, and record the decision of the container."""

        def record() -> None:
            self.progress.started_event_sent, self.progress.chosen = True, chosen

        self.flow.run.emit(event(**self.progress.common, **fields), record)
        checkpoint_started(self.flow.run, self.progress)

    async def sequence(
        self,
        steps: Sequence[Runnable],
        step_input: StepInput | None = None,
        earlier_outputs: Sequence[StepOutput] | None = None,
    ) -> list[StepOutput]:
        """Run steps of this container one after the other."""
        earlier = self.earlier_outputs if earlier_outputs is None else earlier_outputs
        return await run_sequence(steps, step_input or self.given, self.flow, self.progress, self.position, earlier)

    def ended(self, event: type[BaseStepEvent], outputs: Sequence[StepOutput], **fields: Any) -> Ended:
        """Return the output of the container, with the content of its last step, and its completed event."""
        made = StepOutput(
            content=outputs[-1].content if outputs else None,
            success=all(output.success for output in outputs),
            stop=any(output.stop for output in outputs),
            steps=list(outputs),
            chosen=self.progress.chosen,
        )
        for kind in MEDIA:
            media = [item for output in outputs for item in getattr(output, kind) or ()]
            setattr(made, kind, media or None)
        return made, event(**self.progress.common, **fields)


#: The output of a container, and its completed event.
Ended = tuple[StepOutput, BaseStepEvent]


@reject_unknown_options
class Container:
    """Steps under one name."""

    kind: ClassVar[StepType]
    started: ClassVar[type[BaseStepEvent]]

    can_wait_for: ClassVar[tuple[str, ...]] = ("confirmation",)  #: what of a `HumanReview`

    def __init__(
        self,
        name: str | None,
        description: str | None,
        steps: Any,
        *,
        label: str = "steps",
        human_review: HumanReview | None = None,
        **flat: Any,
    ) -> None:
        self.name = name or self.kind.value
        self.description = description
        self.step_id = str(uuid.uuid4())
        where = f"{self.kind.value} {self.name!r}"
        self.steps: list[Runnable] = coerce_steps(steps, where, label)
        self.human_review = review_of(where, human_review, self.can_wait_for, flat)
        if not self.steps:
            raise ConfigurationError(f"{where} is empty: give it some {label}")

    def __repr__(self) -> str:
        return f"<{self.kind.value} {self.name}>"

    def children(self) -> Sequence[Runnable]:
        """Return the steps inside."""
        return self.steps

    def agents(self) -> Iterator[Agent]:
        """Yield the agents inside."""
        for step in self.children():
            yield from step.agents()

    def cleanups(self, output: StepOutput, known: dict[str, Any], *, compensate: bool) -> Iterator[CleanupHook]:
        """Yield nothing: a container has no hooks of its own."""
        yield from ()

    async def execute(
        self,
        step_input: StepInput,
        flow: WorkflowExecution,
        position: StepPosition,
        parent: StepState,
        earlier_output: StepOutput | None = None,
    ) -> StepOutput:
        """Run the container; record its state in `parent` while it runs and when it has ended."""
        progress = flow.begin(self, position, parent, self.kind, emit_started=False)
        stage = ContainerRun(step_input, flow, position, progress, earlier_output)
        stage.passed = pass_gate(self.human_review, flow, progress, self.route_choices())
        if stage.passed.decision == "skip":
            return self._skip(stage, parent)
        try:
            made, event = await self.work(stage)
        except Exception as error:
            if not progress.started_event_sent:
                stage.begin(self.started)
            flow.fail(progress, parent, error_text(error))
            raise
        made.step_name, made.step_id, made.step_type = self.name, self.step_id, self.kind.value
        return flow.end(progress, parent, made, event)

    def route_choices(self) -> list[str] | None:
        """Return the names that a human may choose from; None if this is no Router."""
        return None

    def _skip(self, stage: ContainerRun, parent: StepState) -> StepOutput:
        """End the container without its steps: a human has rejected it."""
        stage.begin(self.started)
        made = skipped(stage.given)
        made.step_name, made.step_id, made.step_type = self.name, self.step_id, self.kind.value
        event = StepCompletedEvent(**stage.progress.common, content=made.content, step_response=made)
        return stage.flow.end(stage.progress, parent, made, event)

    async def work(self, stage: ContainerRun) -> Ended:
        """Run the steps that are due. Calls `stage.begin` as soon as these are known."""
        raise NotImplementedError
