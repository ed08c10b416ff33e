"""`Loop`: steps that run again and again, until a condition holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from desist.exceptions import ConfigurationError
from desist.run.events.containers import (
    LoopExecutionCompletedEvent,
    LoopExecutionStartedEvent,
    LoopIterationCompletedEvent,
    LoopIterationStartedEvent,
)
from desist.workflow.container import Container, ContainerRun, Ended
from desist.workflow.human_review import HumanReview, OnReject
from desist.workflow.sequence import next_input
from desist.workflow.step_function import Predicate
from desist.workflow.types import StepInput, StepOutput, StepType

__all__ = ["Loop"]


class Loop(Container):
    """Steps that run in rounds. Its content is the content of the last step of the last round.

    Parameters:
        steps: steps, containers, agents, workflows or functions: one round.
        name: the name in events and logs.
        description: its purpose.
        max_iterations: the maximum number of rounds.
        end_condition: a function, sync or async, called with the outputs of each round (`list[StepOutput]`), and may
            ask for `session_state` and `run_context` by name; true ends the loop. An exception fails the run.
        forward_iteration_output: each round gets the output of the previous round as input; else the input of the loop.
        human_review: what it waits for before it runs; see `HumanReview`. The other parameters are its fields.

    Raises:
        ConfigurationError: no steps, an entry of another kind, or a value that can't be used.
    """

    kind = StepType.LOOP
    started = LoopExecutionStartedEvent

    def __init__(
        self,
        steps: Sequence[Any] | None = None,
        name: str | None = None,
        description: str | None = None,
        max_iterations: int = 3,
        end_condition: Callable[..., Any] | None = None,
        forward_iteration_output: bool = False,
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
        if isinstance(max_iterations, bool) or not isinstance(max_iterations, int) or max_iterations < 1:
            raise ConfigurationError(
                f"max_iterations={max_iterations!r} of Loop {self.name!r} must be a whole number, 1 or more"
            )
        self.max_iterations = max_iterations
        self.end_condition = end_condition
        self._enough = (
            Predicate(end_condition, f"end_condition= of Loop {self.name!r}") if end_condition is not None else None
        )
        self.forward_iteration_output = forward_iteration_output

    async def work(self, stage: ContainerRun) -> Ended:
        """Run round after round."""
        stage.begin(self.started, max_iterations=self.max_iterations)
        size, all_earlier = len(self.steps), stage.earlier_outputs
        given, rounds = stage.given, list[list[StepOutput]]()
        go_on = True
        while go_on and len(rounds) < self.max_iterations:
            earlier_outputs = all_earlier[size * len(rounds) : size * (len(rounds) + 1)]
            followed = len(all_earlier) > size * (len(rounds) + 1)
            outputs = await self._round(stage, given, len(rounds) + 1, earlier_outputs, followed)
            rounds.append(outputs)
            go_on = followed or await self._should_continue(stage, len(rounds), outputs)
            if self.forward_iteration_output:
                given = _forwarded(stage.given, outputs)
        return stage.ended(
            LoopExecutionCompletedEvent,
            [output for outputs in rounds for output in outputs],
            total_iterations=len(rounds),
            max_iterations=self.max_iterations,
            all_results=rounds,
        )

    async def _round(
        self, stage: ContainerRun, step_input: StepInput, number: int, earlier_outputs: list[StepOutput], followed: bool
    ) -> list[StepOutput]:
        """Run one round. A round that an earlier run had finished, and followed by another, is reused."""
        if followed:
            return [
                stage.flow.reuse(step, output, stage.progress)
                for step, output in zip(self.steps, earlier_outputs, strict=True)
            ]
        stage.progress.round = number
        stage.emit(LoopIterationStartedEvent, iteration=number, max_iterations=self.max_iterations)
        return await stage.sequence(self.steps, step_input, earlier_outputs)

    async def _should_continue(self, stage: ContainerRun, number: int, outputs: list[StepOutput]) -> bool:
        enough = any(output.stop for output in outputs)
        if not enough and self._enough is not None:
            enough = bool(await self._enough.answer(outputs, stage.flow))
        go_on = not enough and number < self.max_iterations
        stage.emit(
            LoopIterationCompletedEvent,
            iteration=number,
            max_iterations=self.max_iterations,
            iteration_results=outputs,
            should_continue=go_on,
        )
        return go_on


def _forwarded(step_input: StepInput, outputs: list[StepOutput]) -> StepInput:
    for output in outputs:
        step_input = next_input(step_input, output.step_name or "", output)
    return step_input
