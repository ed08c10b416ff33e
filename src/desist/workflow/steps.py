"""`Steps`: a sequence of steps under one name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from desist.run.events.containers import StepsExecutionCompletedEvent, StepsExecutionStartedEvent
from desist.workflow.container import Container, ContainerRun, Ended
from desist.workflow.human_review import HumanReview, OnReject
from desist.workflow.types import StepType

__all__ = ["Steps"]


class Steps(Container):
    """A sequence of steps that is itself a step. Its content is that of the last one.

    Parameters:
        name: the name in events and logs.
        description: its purpose.
        steps: steps, containers, agents, workflows or functions.
        human_review: what it waits for before it runs; see `HumanReview`. The other parameters are its fields.

    Raises:
        ConfigurationError: no steps, or an entry of another kind.
    """

    kind = StepType.STEPS
    started = StepsExecutionStartedEvent

    def __init__(
        self,
        name: str | None = None,
        description: str | None = None,
        steps: Sequence[Any] | None = None,
        human_review: HumanReview | None = None,
        requires_confirmation: bool | None = None,
        confirmation_message: str | None = None,
        on_reject: OnReject | str | None = None,
    ) -> None:
        super().__init__(
            name,
            description,
            steps or [],
            human_review=human_review,
            requires_confirmation=requires_confirmation,
            confirmation_message=confirmation_message,
            on_reject=on_reject,
        )

    async def work(self, stage: ContainerRun) -> Ended:
        """Run the steps in order."""
        count = len(self.steps)
        stage.begin(self.started, steps_count=count)
        outputs = await stage.sequence(self.steps)
        return stage.ended(
            StepsExecutionCompletedEvent,
            outputs,
            steps_count=count,
            executed_steps=len(outputs),
            step_results=outputs,
        )
