"""A step whose work is a run of its own: an agent's, or a nested workflow's. It is bound to the step's run.

Its reader is the outer run's; it is cancelled with it, and by its own id takes it along, unless the step says
`on_cancel="skip"`.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from desist.cancel.reason import Source
from desist.cancel.status import RunStatus
from desist.exceptions import StepError
from desist.run.events.base import content_text
from desist.run.execution.run import Run
from desist.run.options.parent_context import ParentContext
from desist.run.outputs.input import input_text
from desist.workflow.checkpoints import checkpoint_started
from desist.workflow.execution import WorkflowExecution
from desist.workflow.sessions import with_history
from desist.workflow.step_state import StepState
from desist.workflow.types import StepInput, StepOutput

if TYPE_CHECKING:
    from desist.workflow.step import Step

__all__ = ["run_child"]


async def run_child(
    step: Step, step_input: StepInput, flow: WorkflowExecution, progress: StepState, before: StepOutput | None
) -> StepOutput:
    """Run the step's agent or workflow, and wait for it.

    Raises:
        StepError: it failed, or took longer than the step's timeout.
    """
    if step.agent is not None:
        run = await _open_agent(step, step_input, flow, progress, before)
    else:
        run = _open_workflow(step, step_input, flow, progress, before)
    made = run.body.output

    def note() -> None:  # now, not when it has ended: a cancel must find it
        progress.child_output, progress.child_body = made, run.body
        progress.child_begun = getattr(run.body, "started_steps", [])
        flow.child_runs.append(made)

    flow.run.commit(note)
    checkpoint_started(flow.run, progress)
    run.set_deadline(step.timeout, f"the timeout of step {step.name!r}", reach="own")
    await run.start(asyncio.get_running_loop()).wait_async()
    if made.status is RunStatus.cancelled:
        if run.stopped_by_own_deadline:
            raise step.timeout_error()
        return _cancelled(step, made, flow)
    if made.status is RunStatus.error:
        words = str(run.error) or type(run.error).__name__  # the content may be what was said before the error
        error = StepError(f"step {step.name!r}: {words}")
        error.retryable = getattr(run.error, "retryable", True)
        raise error
    return _output(made)


async def _open_agent(
    step: Step, step_input: StepInput, flow: WorkflowExecution, progress: StepState, before: StepOutput | None
) -> Run:
    assert step.agent is not None
    wanted, num_runs = flow.history
    if step.add_workflow_history is not None:
        wanted, num_runs = step.add_workflow_history, step.num_history_runs
    asked = input_text(content_text(_child_input(step_input)))
    message = await with_history(asked, step_input, enabled=wanted, num_runs=num_runs)
    place = _parent_context(step, flow, progress)
    body = step.agent.body(message, place, has_reader=flow.listened, stream_events=flow.stream_events)
    earlier = flow.earlier_runs.get(before.step_run_id or "") if before is not None else None
    if earlier is not None:
        body.continue_from(earlier)
    return step.agent.open(body, bound=True, skip=step.on_cancel == "skip")


def _open_workflow(
    step: Step, step_input: StepInput, flow: WorkflowExecution, progress: StepState, before: StepOutput | None
) -> Run:
    assert step.workflow is not None
    asked = StepInput(
        input=_child_input(step_input),
        additional_data=step_input.additional_data,
        images=step_input.images,
        videos=step_input.videos,
        audio=step_input.audio,
        files=step_input.files,
    )
    place = _parent_context(step, flow, progress)
    place = replace(
        place,
        workflow_id=step.workflow.id,
        workflow_name=step.workflow.name,
        nested_depth=place.nested_depth + 1,
    )
    earlier = before.steps or () if before is not None else ()
    return step.workflow.open_as_child(asked, place, flow, skip=step.on_cancel == "skip", before=earlier)


def _child_input(step_input: StepInput) -> Any:
    """Return what it is asked: the content of the step before, or the workflow's input."""
    return step_input.input if step_input.previous_step_content is None else step_input.previous_step_content


def _parent_context(step: Step, flow: WorkflowExecution, progress: StepState) -> ParentContext:
    return replace(
        flow.place,
        new_session=False,  # steps before this one may have run in it
        workflow_run_id=flow.place.workflow_run_id or flow.run.run_id,
        step_id=step.step_id,
        step_name=step.name,
        step_index=progress.common["step_index"],
        nested_depth=progress.common["nested_depth"],
    )


def _cancelled(step: Step, made: Any, flow: WorkflowExecution) -> StepOutput:
    """The child alone was cancelled: never done. The workflow goes with it, or the step says skip."""
    flow.check()  # its branch was stopped
    if step.on_cancel != "skip":
        flow.run.stop(Source.child, made.cancel.reason if made.cancel else None)
        flow.run.check()
    return _output(made, success=False, cancelled=True)


def _output(made: Any, **more: Any) -> StepOutput:
    return StepOutput(
        content=made.content,
        step_run_id=made.run_id,
        metrics=made.metrics,
        steps=getattr(made, "step_results", None) or None,
        images=made.images,
        videos=made.videos,
        audio=made.audio,
        files=made.files,
        **more,
    )
