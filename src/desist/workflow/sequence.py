"""Running steps one after the other, each with what the ones before it made."""

from __future__ import annotations

from collections.abc import Sequence

from desist.workflow.flow import Flow, Runnable, Spot
from desist.workflow.progress import Progress
from desist.workflow.types import StepInput, StepOutput

__all__ = ["run_sequence"]


async def run_sequence(
    steps: Sequence[Runnable], given: StepInput, flow: Flow, above: Progress, spot: Spot | None = None
) -> list[StepOutput]:
    """Run the steps in their order; stop early where one says so. Return what they made.

    Parameters:
        spot: where the container stands that they are in; None for the workflow itself.
    """
    outputs: list[StepOutput] = []
    for number, step in enumerate(steps):
        flow.run.check()
        output = await step.perform(given, flow, _spot(number, spot, above), above)
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
        previous_step_outputs={**given.previous_step_outputs, name: output},
        additional_data=given.additional_data,
        images=output.images or given.images,
        videos=output.videos or given.videos,
        audio=output.audio or given.audio,
        files=output.files or given.files,
        workflow_session=given.workflow_session,
    )


def _spot(number: int, outer: Spot | None, above: Progress) -> Spot:
    if outer is None:
        return Spot(number)
    prefix = outer.index if isinstance(outer.index, tuple) else (outer.index,)
    return Spot((*prefix, number), above.common.get("step_id"), outer.depth + 1)
