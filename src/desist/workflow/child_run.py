"""Running the agent or workflow of a step as a child run, bound to the run of the workflow.

The child's events go to the outer run's reader. A cancel of the outer run cancels the child; a cancel of the child's id
cancels the outer run too, unless the step has `on_cancel="skip"`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, Protocol

from desist.agent.agent import Agent
from desist.cancel.reason import Source
from desist.cancel.status import RunStatus
from desist.exceptions import StepError
from desist.run.events.base import content_text
from desist.run.execution.run import Run
from desist.run.options.parent_context import ParentContext
from desist.run.outputs.input import input_text
from desist.workflow.checkpoints import checkpoint_started
from desist.workflow.execution import ChildWorkflow, WorkflowExecution
from desist.workflow.sessions import with_history
from desist.workflow.step_state import StepState
from desist.workflow.types import StepInput, StepOutput, media_of

__all__ = ["ChildStep", "run_child"]


class ChildStep(Protocol):
    """A step with an agent or a workflow."""

    name: str
    step_id: str
    agent: Agent | None
    workflow: ChildWorkflow | None
    on_cancel: Literal["skip"] | Callable[..., Any] | None
    timeout: float | None
    add_workflow_history: bool | None
    num_history_runs: int

    def timeout_error(self) -> StepError:
        """Return the error of a step that took longer than its timeout."""


async def run_child(
    step: ChildStep,
    step_input: StepInput,
    flow: WorkflowExecution,
    progress: StepState,
    earlier_output: StepOutput | None,
) -> StepOutput:
    """Run the agent or workflow of a step, and wait for its end.

    Raises:
        StepError: the child failed, or took longer than the timeout of the step.
    """
    if step.agent is not None:
        run = await _open_agent(step, step_input, flow, progress, earlier_output)
    else:
        run = _open_workflow(step, step_input, flow, progress, earlier_output)
    made = run.body.output

    def record() -> None:  # before the child starts, so that a cancel finds it
        progress.child_output, progress.child_body = made, run.body
        progress.child_begun = getattr(run.body, "started_steps", ())
        flow.child_runs.append(made)

    flow.run.commit(record)
    checkpoint_started(flow.run, progress)
    run.limits.set_deadline(step.timeout, f"the timeout of step {step.name!r}", reach="own")
    await run.start(asyncio.get_running_loop()).wait_async()
    if made.status is RunStatus.cancelled:
        if run.limits.stopped_by_own_deadline:
            raise step.timeout_error()
        return _cancelled(step, made, flow)
    if made.status is RunStatus.error:
        message = str(run.error) or type(run.error).__name__  # not the content, which may be partial text
        error = StepError(f"step {step.name!r}: {message}")
        error.retryable = getattr(run.error, "retryable", True)
        raise error
    return _output(made)


async def _open_agent(
    step: ChildStep,
    step_input: StepInput,
    flow: WorkflowExecution,
    progress: StepState,
    earlier_output: StepOutput | None,
) -> Run:
    assert step.agent is not None
    enabled, num_runs = flow.history
    if step.add_workflow_history is not None:
        enabled, num_runs = step.add_workflow_history, step.num_history_runs
    text = input_text(content_text(_child_input(step_input)))
    message = await with_history(text, step_input, enabled=enabled, num_runs=num_runs)
    body = step.agent.body(
        message, _parent_context(step, flow, progress), has_reader=flow.listened, stream_events=flow.stream_events
    )
    earlier = flow.earlier_runs.get(earlier_output.step_run_id or "") if earlier_output is not None else None
    if earlier is not None:
        body.continue_from(earlier)
    return step.agent.open(body, bound=True, skip=step.on_cancel == "skip")


def _open_workflow(
    step: ChildStep,
    step_input: StepInput,
    flow: WorkflowExecution,
    progress: StepState,
    earlier_output: StepOutput | None,
) -> Run:
    assert step.workflow is not None
    child_input = StepInput(
        input=_child_input(step_input),
        additional_data=step_input.additional_data,
        **media_of(step_input),
    )
    parent = _parent_context(step, flow, progress)
    parent = replace(
        parent,
        workflow_id=step.workflow.id,
        workflow_name=step.workflow.name,
        nested_depth=parent.nested_depth + 1,
    )
    earlier = earlier_output.steps or () if earlier_output is not None else ()
    return step.workflow.open_as_child(
        child_input, parent, flow, skip=step.on_cancel == "skip", earlier_outputs=earlier
    )


def _child_input(step_input: StepInput) -> Any:
    """Return the input of the child: the content of the previous step, or the workflow's input."""
    return step_input.input if step_input.previous_step_content is None else step_input.previous_step_content


def _parent_context(step: ChildStep, flow: WorkflowExecution, progress: StepState) -> ParentContext:
    return replace(
        flow.parent_context,
        new_session=False,  # steps before this one may have run in it
        workflow_run_id=flow.parent_context.workflow_run_id or flow.run.run_id,
        step_id=step.step_id,
        step_name=step.name,
        step_index=progress.common["step_index"],
        nested_depth=progress.common["nested_depth"],
    )


def _cancelled(step: ChildStep, made: Any, flow: WorkflowExecution) -> StepOutput:
    """Return the output of a child that was cancelled alone, or cancel the run, as the step's `on_cancel` says."""
    flow.check()  # raises if the branch was stopped
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
        **media_of(made),
        **more,
    )
