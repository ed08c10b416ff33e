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
from desist.run.component.step_opening import StepOpening
from desist.run.events.base import content_text
from desist.run.events.steps import StepExecutorContinuedEvent
from desist.run.execution.run import Run
from desist.run.options.parent_context import ParentContext
from desist.run.outputs.input import input_text
from desist.run.records.json_values import error_text
from desist.workflow.checkpoints import checkpoint_started
from desist.workflow.execution import ChildWorkflow, WorkflowExecution
from desist.workflow.overridden_run import call_overridden, overridden_method
from desist.workflow.sessions import with_history
from desist.workflow.step_function import GeneratorOutput, as_output
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
    component = step.agent or step.workflow
    input = await _agent_input(step, step_input, flow) if step.agent is not None else _child_input(step_input)

    def open_run(input: Any, streamed: bool) -> Run:
        open_child = _open_agent if step.agent is not None else _open_workflow
        run = open_child(step, input, step_input, flow, progress, earlier_output, streamed)
        with run.withdrawn_on_error():
            _record(run, flow, progress)
            run.limits.set_deadline(step.timeout, f"the timeout of step {step.name!r}", reach="own")
        return run

    method = overridden_method(component)
    if method is None:
        run = open_run(input, False)
        await run.start(asyncio.get_running_loop()).wait_async()
        return _ended(step, run, flow, progress)
    opening, pieces = StepOpening(component, open_run), GeneratorOutput(flow, progress)
    try:
        value = await call_overridden(opening, input, method, step.timeout, pieces.take)
    except TimeoutError as error:
        raise step.timeout_error() if step.timeout is not None else error from None
    flow.check()
    if opening.run is not None and (value is None or value is opening.run.body.output):
        return _ended(step, opening.run, flow, progress)
    return pieces.output() if value is None else as_output(value)


def _record(run: Run, flow: WorkflowExecution, progress: StepState) -> None:
    """Record the child before it starts, so that a cancel finds it."""

    def record() -> None:
        progress.child_output, progress.child_body = run.body.output, run.body
        progress.child_begun = getattr(run.body, "started_steps", ())
        flow.child_runs.append(run.body.output)

    flow.run.commit(record)
    checkpoint_started(flow.run, progress)


def _ended(step: ChildStep, run: Run, flow: WorkflowExecution, progress: StepState) -> StepOutput:
    """Return the output of a step whose child has ended."""
    made = run.body.output
    if made.status is RunStatus.paused:
        flow.pauses.ask_for_child(flow.run, progress, run)
    if made.status is RunStatus.cancelled:
        if run.limits.stopped_by_own_deadline:
            raise step.timeout_error()
        return _cancelled(step, made, flow)
    if made.status is RunStatus.error:
        assert run.error is not None
        error = StepError(f"step {step.name!r}: {error_text(run.error)}")  # not the content, which may be partial
        error.retryable = getattr(run.error, "retryable", True)
        raise error
    return _output(made)


async def _agent_input(step: ChildStep, step_input: StepInput, flow: WorkflowExecution) -> Any:
    enabled, num_runs = flow.history
    if step.add_workflow_history is not None:
        enabled, num_runs = step.add_workflow_history, step.num_history_runs
    text = input_text(content_text(_child_input(step_input)))
    feedback = (step_input.additional_data or {}).get("rejection_feedback")
    if feedback:
        text = f"{text}\n\nYour last answer was rejected: {feedback}"
    return await with_history(text, step_input, enabled=enabled, num_runs=num_runs)


def _open_agent(
    step: ChildStep,
    input: Any,
    step_input: StepInput,
    flow: WorkflowExecution,
    progress: StepState,
    earlier_output: StepOutput | None,
    streamed: bool,
) -> Run:
    assert step.agent is not None
    body = step.agent.body(
        input,
        _parent_context(step, flow, progress),
        has_reader=flow.listened or streamed,
        stream_events=flow.stream_events,
    )
    earlier = flow.earlier_runs.get(earlier_output.step_run_id or "") if earlier_output is not None else None
    answers = flow.pauses.child_answers.pop(earlier.run_id, None) if earlier is not None else None
    run_id: str | None = None
    if earlier is not None and answers is not None and earlier.status is RunStatus.paused:
        run_id = earlier.run_id  # the same run goes on
        body.resume_from(earlier, answers, 0)
        flow.run.emit(
            StepExecutorContinuedEvent(
                **progress.common,
                executor_id=step.agent.id,
                executor_name=progress.executor_name,
                executor_run_id=run_id,
                executor_type=progress.executor_type,
            )
        )
    elif earlier is not None:
        body.continue_from(earlier)
    return step.agent.open(body, run_id=run_id, bound=not streamed, skip=step.on_cancel == "skip")


def _open_workflow(
    step: ChildStep,
    input: Any,
    step_input: StepInput,
    flow: WorkflowExecution,
    progress: StepState,
    earlier_output: StepOutput | None,
    streamed: bool,
) -> Run:
    assert step.workflow is not None
    child_input = StepInput(
        input=input,
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
    skip = step.on_cancel == "skip"
    return step.workflow.open_as_child(
        child_input, parent, flow, skip=skip, earlier_outputs=earlier, bound=not streamed
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
