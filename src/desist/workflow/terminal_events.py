"""The terminal event of a workflow's run, made from its output: when the run ends, and for later readers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from desist.run.events.base import RunStatus, content_text
from desist.run.workflow import (
    WorkflowCancelledEvent,
    WorkflowCompletedEvent,
    WorkflowErrorEvent,
    WorkflowPausedEvent,
    WorkflowRunOutput,
)

__all__ = ["cancelled", "completed", "failed", "paused", "terminal_event"]


def completed(output: WorkflowRunOutput, common: Mapping[str, Any]) -> WorkflowCompletedEvent:
    """Return the event of a completed run. `common` has the fields that all events of the run carry."""
    return WorkflowCompletedEvent(
        **common,
        content=output.content,
        content_type=output.content_type,
        step_results=output.step_results,
        step_executor_runs=output.step_executor_runs,
        metadata=output.metadata,
        metrics=output.metrics,
        run_output=output,
    )


def cancelled(output: WorkflowRunOutput, common: Mapping[str, Any]) -> WorkflowCancelledEvent:
    """Return the event of a run that was cancelled; its content is the partial content, as text."""
    return WorkflowCancelledEvent(
        **common,
        reason=output.cancel.reason if output.cancel else None,
        content=None if output.content is None else content_text(output.content),
        cancel=output.cancel,
        step_results=output.step_results,
        run_output=output,
    )


def paused(output: WorkflowRunOutput, common: Mapping[str, Any]) -> WorkflowPausedEvent:
    """Return the event of a run that waits for a human. It is the last one of the stream, and not terminal."""
    return WorkflowPausedEvent(
        **common,
        paused_step_index=output.paused_step_index,
        paused_step_name=output.paused_step_name,
        pause_kind=output.pause_kind,
        step_requirements=output.step_requirements,
        step_results=output.step_results,
        step_executor_runs=output.step_executor_runs,
        content=output.content,
        metadata=output.metadata,
    )


def failed(output: WorkflowRunOutput, common: Mapping[str, Any], error_type: str | None = None) -> WorkflowErrorEvent:
    """Return the event of a run that failed."""
    return WorkflowErrorEvent(**common, error=output.error, error_type=error_type)


def terminal_event(output: WorkflowRunOutput) -> Any:
    """Return the terminal event of a run that has ended."""
    make: Any = {RunStatus.completed: completed, RunStatus.cancelled: cancelled}.get(output.status, failed)
    return make(
        output,
        {
            "workflow_id": output.workflow_id,
            "workflow_name": output.workflow_name,
            "session_id": output.session_id,
            "run_id": output.run_id,
        },
    )
