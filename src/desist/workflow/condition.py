"""`Condition`: steps that run if something holds, and others if it doesn't."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from desist.run.events.containers import ConditionExecutionCompletedEvent, ConditionExecutionStartedEvent
from desist.workflow.container import Container, ContainerRun, Ended
from desist.workflow.execution import Runnable
from desist.workflow.step_function import Predicate
from desist.workflow.step_list import coerce_steps
from desist.workflow.types import StepType

__all__ = ["Condition"]


class Condition(Container):
    """Steps that run if the evaluator says so. Its content is that of the last step; if none ran, what it was given.

    Parameters:
        steps: steps, containers, agents, workflows or functions, for the case that it holds.
        evaluator: True or False, or a function, sync or async, of the `StepInput`, which may ask for `session_state`
            and `run_context` by name. One that raises fails the run.
        else_steps: what runs if it doesn't hold; None: nothing.
        name: how it is called.
        description: what it is for.

    Raises:
        ConfigurationError: no steps, something that isn't one, or an evaluator that can't be asked.
    """

    kind = StepType.CONDITION
    started = ConditionExecutionStartedEvent

    def __init__(
        self,
        steps: Sequence[Any] | None = None,
        evaluator: bool | Callable[..., Any] = True,
        else_steps: Sequence[Any] | None = None,
        name: str | None = None,
        description: str | None = None,
    ) -> None:
        super().__init__(name, description, steps or [])
        where = f"Condition {self.name!r}"
        self.else_steps: list[Runnable] = coerce_steps(else_steps or [], where, "else_steps")
        self.evaluator = evaluator
        self._holds = None if isinstance(evaluator, bool) else Predicate(evaluator, f"evaluator= of {where}")

    def children(self) -> Sequence[Runnable]:
        """Return the steps in it, for either case."""
        return [*self.steps, *self.else_steps]

    async def work(self, stage: ContainerRun) -> Ended:
        """Ask, and run the steps of the branch. An earlier run that had decided isn't asked again."""
        decided = stage.before.chosen if stage.before is not None else None
        if decided is not None:
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
