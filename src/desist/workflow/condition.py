"""`Condition`: steps that run if an evaluator returns true, and others if not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from desist.run.events.containers import ConditionExecutionCompletedEvent, ConditionExecutionStartedEvent
from desist.workflow.container import Container, ContainerRun, Ended
from desist.workflow.execution import Runnable
from desist.workflow.human_review import HumanReview, OnReject
from desist.workflow.step_function import Predicate
from desist.workflow.step_list import coerce_steps
from desist.workflow.types import StepType

__all__ = ["Condition"]


class Condition(Container):
    """Steps that run if the evaluator returns true. Its content is that of the last step, or its input if none ran.

    Parameters:
        steps: steps, containers, agents, workflows or functions, for the case true.
        evaluator: True or False, or a function, sync or async, of the `StepInput`, which may ask for `session_state`
            and `run_context` by name. An exception fails the run.
        else_steps: steps for the case false; None for no steps.
        name: the name in events and logs.
        description: its purpose.
        human_review: what it waits for before it runs; see `HumanReview`. The other parameters are its fields.
            A rejection with on_reject="else" runs the else_steps.

    Raises:
        ConfigurationError: no steps, an entry of another kind, or an evaluator that can't be called.
    """

    kind = StepType.CONDITION
    started = ConditionExecutionStartedEvent
    can_wait_for = ("confirmation", "else")

    def __init__(
        self,
        steps: Sequence[Any] | None = None,
        evaluator: bool | Callable[..., Any] = True,
        else_steps: Sequence[Any] | None = None,
        name: str | None = None,
        description: str | None = None,
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
        where = f"Condition {self.name!r}"
        self.else_steps: list[Runnable] = coerce_steps(else_steps or [], where, "else_steps")
        self.evaluator = evaluator
        self._holds = None if isinstance(evaluator, bool) else Predicate(evaluator, f"evaluator= of {where}")

    def children(self) -> Sequence[Runnable]:
        """Return the steps of both cases."""
        return [*self.steps, *self.else_steps]

    async def work(self, stage: ContainerRun) -> Ended:
        """Evaluate, and run the steps of the branch. The decision of an earlier run is reused."""
        decided = stage.earlier_output.chosen if stage.earlier_output is not None else None
        if stage.passed.decision == "else":
            holds = False
        elif decided is not None:
            holds = decided == ["if"]
        else:
            holds = bool(self.evaluator if self._holds is None else await self._holds.answer(stage.given, stage.flow))
        branch = "if" if holds else "else" if self.else_steps else None
        stage.begin(self.started, [branch] if branch else [], condition_result=holds)
        outputs = await stage.sequence(self.steps if holds else self.else_steps)
        made, event = stage.ended(
            ConditionExecutionCompletedEvent,
            outputs,
            condition_result=holds,
            executed_steps=len(outputs),
            branch=branch,
            step_results=outputs,
        )
        if not outputs:
            made.content = stage.given.previous_step_content
        return made, event
