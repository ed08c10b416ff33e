"""Running steps one after the other, each with what the ones before it made."""

from __future__ import annotations

from collections.abc import Sequence

from desist.exceptions import ConfigurationError
from desist.workflow.execution import Flow, Runnable, Spot
from desist.workflow.previous_outputs import Outputs
from desist.workflow.step_state import Progress
from desist.workflow.types import StepInput, StepOutput

__all__ = ["following", "run_sequence", "spot_of"]


async def run_sequence(
    steps: Sequence[Runnable],
    given: StepInput,
    flow: Flow,
    above: Progress,
    spot: Spot | None = None,
    before: Sequence[StepOutput] = (),
) -> list[StepOutput]:
    """Run the steps in their order; stop early where one says so. Return what they made.

    Parameters:
        spot: where the container stands that they are in; None for the workflow itself.
        before: what an earlier run of these steps made before it was stopped, in their order. What finished is taken
            as it is; the first that didn't runs again, with what had finished inside it; those after it run anew.

    Raises:
        ConfigurationError: `before` is of other steps than these.
    """
    _check_before(steps, before, above.common.get("step_name"))
    outputs: list[StepOutput] = []
    for number, step in enumerate(steps):
        flow.check()
        earlier = before[number] if number < len(before) else None
        if earlier is not None and earlier.finished:
            output = flow.reuse(step, earlier, above)
        else:
            before = ()
            output = await step.perform(given, flow, spot_of(number, spot, above, flow), above, earlier)
        outputs.append(output)
        if output.stop:
            break
        given = following(given, step.name, output)
    return outputs


def following(given: StepInput, name: str, output: StepOutput) -> StepInput:
    """Return the input of the step after `name`."""
    return StepInput(
        input=given.input,
        previous_step_content=output.content,
        previous_step_outputs=Outputs.of(given.previous_step_outputs).then(name, output),
        additional_data=given.additional_data,
        images=_both(given.images, output.images),
        videos=_both(given.videos, output.videos),
        audio=_both(given.audio, output.audio),
        files=_both(given.files, output.files),
        workflow_session=given.workflow_session,
    )


def spot_of(number: int, outer: Spot | None, above: Progress, flow: Flow) -> Spot:
    """Return where the step stands that is the `number`-th in the container at `outer`, or in the workflow."""
    if outer is None:
        return Spot(number, flow.place.step_id, flow.place.nested_depth)
    prefix = outer.index if isinstance(outer.index, tuple) else (outer.index,)
    return Spot((*prefix, number), above.common.get("step_id"), outer.depth + 1)


def _both(had: list[object] | None, made: list[object] | None) -> list[object] | None:
    """Append what a step made; what it only passed on stands there once."""
    if not made or made is had:
        return had
    return [*(had or ()), *(item for item in made if not any(item is known for known in had or ()))]


def _check_before(steps: Sequence[Runnable], before: Sequence[StepOutput], where: str | None) -> None:
    """Refuse outputs of other steps: the workflow has changed since."""
    place = f"{where!r}" if where else "the workflow"
    for number, output in enumerate(before):
        if number >= len(steps):
            raise ConfigurationError(
                f"can't go on from an earlier run: it had a step {output.step_name!r}, and {place} has no step"
                f" {number} any more; run it anew"
            )
        if output.step_name != steps[number].name:
            raise ConfigurationError(
                f"can't go on from an earlier run: step {number} of {place} is {steps[number].name!r} now, and was"
                f" {output.step_name!r}; run it anew"
            )
