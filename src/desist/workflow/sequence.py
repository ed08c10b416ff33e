"""Running steps one after the other, each with the outputs of the previous ones."""

from __future__ import annotations

from collections.abc import Sequence

from desist.exceptions import ConfigurationError
from desist.workflow.execution import Runnable, StepPosition, WorkflowExecution
from desist.workflow.previous_outputs import PreviousOutputs
from desist.workflow.step_state import StepState
from desist.workflow.types import StepInput, StepOutput

__all__ = ["child_position", "next_input", "run_sequence"]


async def run_sequence(
    steps: Sequence[Runnable],
    step_input: StepInput,
    flow: WorkflowExecution,
    parent: StepState,
    position: StepPosition | None = None,
    earlier_outputs: Sequence[StepOutput] = (),
) -> list[StepOutput]:
    """Run the steps in order; end early after a step with `stop`. Return their outputs.

    Parameters:
        position: the position of the container around the steps; None for the workflow itself.
        earlier_outputs: the outputs of an earlier, interrupted run of these steps, in order. Finished steps are
            reused; the first unfinished step runs again, with the finished work inside it.

    Raises:
        ConfigurationError: `earlier_outputs` has the outputs of other steps.
    """
    _check_earlier(steps, earlier_outputs, parent.common.get("step_name"))
    outputs: list[StepOutput] = []
    for number, step in enumerate(steps):
        flow.check()
        earlier = earlier_outputs[number] if number < len(earlier_outputs) else None
        if earlier is not None and earlier.finished:
            output = flow.reuse(step, earlier, parent)
        else:
            earlier_outputs = ()
            output = await step.execute(
                step_input, flow, child_position(number, position, parent, flow), parent, earlier
            )
        outputs.append(output)
        if output.stop:
            break
        step_input = next_input(step_input, step.name, output)
    return outputs


def next_input(step_input: StepInput, name: str, output: StepOutput) -> StepInput:
    """Return the input of the step after `name`."""
    return StepInput(
        input=step_input.input,
        previous_step_content=output.content,
        previous_step_outputs=PreviousOutputs.of(step_input.previous_step_outputs).then(name, output),
        additional_data=step_input.additional_data,
        images=_both(step_input.images, output.images),
        videos=_both(step_input.videos, output.videos),
        audio=_both(step_input.audio, output.audio),
        files=_both(step_input.files, output.files),
        workflow_session=step_input.workflow_session,
    )


def child_position(number: int, outer: StepPosition | None, parent: StepState, flow: WorkflowExecution) -> StepPosition:
    """Return the position of the `number`-th step in the container at `outer`, or in the workflow."""
    if outer is None:
        return StepPosition(number, flow.parent_context.step_id, flow.parent_context.nested_depth)
    prefix = outer.index if isinstance(outer.index, tuple) else (outer.index,)
    return StepPosition((*prefix, number), parent.common.get("step_id"), outer.depth + 1)


def _both(had: list[object] | None, made: list[object] | None) -> list[object] | None:
    """Append the media of a step's output; media that the step only passed on are not repeated."""
    if not made or made is had:
        return had
    return [*(had or ()), *(item for item in made if not any(item is known for known in had or ()))]


def _check_earlier(steps: Sequence[Runnable], earlier_outputs: Sequence[StepOutput], where: str | None) -> None:
    """Raise if outputs are of other steps, because the workflow has changed."""
    container = f"{where!r}" if where else "the workflow"
    for number, output in enumerate(earlier_outputs):
        if number >= len(steps):
            raise ConfigurationError(
                f"can't go on from an earlier run: it had a step {output.step_name!r}, and {container} has no step"
                f" {number} any more; run it anew"
            )
        if output.step_name != steps[number].name:
            raise ConfigurationError(
                f"can't go on from an earlier run: step {number} of {container} is {steps[number].name!r} now, and was"
                f" {output.step_name!r}; run it anew"
            )
