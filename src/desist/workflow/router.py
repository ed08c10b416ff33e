"""`Router`: a function chooses which steps run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from desist.exceptions import ConfigurationError, StepError
from desist.run.events.containers import RouterExecutionCompletedEvent, RouterExecutionStartedEvent
from desist.workflow.container import Container, ContainerRun, Ended
from desist.workflow.execution import Runnable
from desist.workflow.human_review import HumanReview, OnReject
from desist.workflow.step_function import Predicate
from desist.workflow.steps import Steps
from desist.workflow.types import StepType

__all__ = ["Router"]


class Router(Container):
    """Choices, and a function that selects which of them run, in which order. Its content is that of the last one.

    Parameters:
        choices: steps, containers, agents, workflows or functions; a list of them is one choice, a sequence, named
            after its steps: "a + b".
        selector: a function, sync or async, of the `StepInput`. It returns a choice, its name, or a list of these, and
            may ask for `session_state`, `run_context` and `step_choices` (the list of them) by name. An exception,
            or a name that is no choice, fails the run.
        name: the name in events and logs.
        description: its purpose.
        human_review: what it waits for before it runs; see `HumanReview`. The other parameters are its fields.
            With requires_user_input a human chooses, and no selector is needed.

    Raises:
        ConfigurationError: no choices, an entry of another kind, or a selector that can't be called.
    """

    kind = StepType.ROUTER
    started = RouterExecutionStartedEvent
    can_wait_for = ("confirmation", "user_input")

    def __init__(
        self,
        choices: Sequence[Any] | None = None,
        selector: Callable[..., Any] | None = None,
        name: str | None = None,
        description: str | None = None,
        human_review: HumanReview | None = None,
        requires_confirmation: bool | None = None,
        confirmation_message: str | None = None,
        on_reject: OnReject | str | None = None,
        requires_user_input: bool | None = None,
        user_input_message: str | None = None,
        allow_multiple_selections: bool | None = None,
    ) -> None:
        given: Any = choices or []
        made = [_sequence(choice) for choice in given] if isinstance(given, list | tuple) else given
        super().__init__(
            name,
            description,
            made,
            label="choices",
            human_review=human_review,
            requires_confirmation=requires_confirmation,
            confirmation_message=confirmation_message,
            on_reject=on_reject,
            requires_user_input=requires_user_input,
            user_input_message=user_input_message,
            allow_multiple_selections=allow_multiple_selections,
        )
        if selector is None and self.human_review.requires_user_input:
            selector = _nobody  # a human chooses
        if selector is None:
            raise ConfigurationError(f"Router {self.name!r} has no selector: give it a function, selector=...")
        self.choices = self.steps
        self.selector = selector
        self._select = Predicate(selector, f"selector= of Router {self.name!r}")
        self._given = list(given)  # as the program gave them, because a selector may return them
        self._by_name = {step.name: step for step in self.steps}
        self._by_id = {id(one): step for step, raw in zip(self.steps, self._given, strict=True) for one in (step, raw)}

    async def work(self, stage: ContainerRun) -> Ended:
        """Select, and run the selected steps. The selection of an earlier run is reused."""
        decided = stage.earlier_output.chosen if stage.earlier_output is not None else None
        if stage.passed.choices is not None:
            decided = stage.passed.choices
        elif decided is None:
            decided = await self._select.answer(stage.given, stage.flow, step_choices=list(self.steps))
        else:
            self._check_earlier(decided)
        chosen = list(self._named(decided))
        if not chosen:
            raise self._wrong(decided)
        names = [step.name for step in chosen]
        stage.begin(self.started, names, selected_steps=names)
        outputs = await stage.sequence(chosen)
        return stage.ended(
            RouterExecutionCompletedEvent,
            outputs,
            selected_steps=names,
            executed_steps=len(outputs),
            step_results=outputs,
        )

    def route_choices(self) -> list[str] | None:
        """Return the names of the choices."""
        return [step.name for step in self.steps]

    def _named(self, answer: Any) -> Iterator[Runnable]:
        """Yield the steps that a selector has returned or named."""
        step = self._by_name.get(answer) if isinstance(answer, str) else self._by_id.get(id(answer))
        if step is not None:
            yield step
            return
        if not isinstance(answer, list | tuple):
            raise self._wrong(answer)
        for item in answer:
            yield from self._named(item)

    def _check_earlier(self, decided: list[str]) -> None:
        for name in decided:
            if name not in self._by_name:
                raise ConfigurationError(
                    f"can't go on from an earlier run: Router {self.name!r} had a choice {name!r}, and has it no more;"
                    " run it anew"
                )

    def _wrong(self, answer: Any) -> StepError:
        names = ", ".join(repr(step.name) for step in self.steps)
        error = StepError(
            f"selector= of Router {self.name!r} chose {answer!r:.200}: it must return one of {names}, or a list of them"
        )
        error.retryable = False
        return error


def _nobody(step_input: Any) -> list[str]:
    """Choose nothing: never called, because a human chooses."""
    return []


def _sequence(choice: Any) -> Any:
    """Return a list of steps as one choice."""
    if not isinstance(choice, list | tuple):
        return choice
    steps = Steps("sequence", steps=[_sequence(step) for step in choice])
    steps.name = " + ".join(step.name for step in steps.steps)
    return steps
