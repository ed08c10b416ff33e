"""The events of a workflow's run itself: its start, its pause and its three ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar

from desist.run.events.base import CancelRecord, RunStatus
from desist.run.events.registry import output_from_dict, workflow_event
from desist.run.events.workflow_base import BaseWorkflowRunOutputEvent, WorkflowRunEvent
from desist.run.records.record import Reviver, list_of, reviver

__all__ = [
    "WorkflowCancelledEvent",
    "WorkflowCompletedEvent",
    "WorkflowErrorEvent",
    "WorkflowPausedEvent",
    "WorkflowStartedEvent",
]


@workflow_event
class WorkflowStartedEvent(BaseWorkflowRunOutputEvent):
    """The run began."""

    event: str = WorkflowRunEvent.workflow_started.value


@workflow_event
class WorkflowCompletedEvent(BaseWorkflowRunOutputEvent):
    """Terminal: the run completed. `run_output` is for readers in this process and is never sent."""

    event: str = WorkflowRunEvent.workflow_completed.value
    content: Any | None = None
    content_type: str = "str"
    step_results: list[Any] = field(default_factory=list)
    step_executor_runs: list[Any] | None = None
    metadata: dict[str, Any] | None = None
    metrics: Any | None = None
    run_output: Any | None = field(default=None, compare=False)  #: the WorkflowRunOutput

    status: ClassVar[RunStatus] = RunStatus.completed
    is_terminal: ClassVar[bool] = True
    _status_attribute: ClassVar[bool] = True
    _not_serialized: ClassVar[frozenset[str]] = frozenset({"run_output"})
    _revivers: ClassVar[Mapping[str, Reviver]] = {"step_executor_runs": list_of(output_from_dict)}


@workflow_event
class WorkflowCancelledEvent(BaseWorkflowRunOutputEvent):
    """Terminal: the run was cancelled. `content` is the partial text; `run_output` is never sent."""

    event: str = WorkflowRunEvent.workflow_cancelled.value
    reason: str | None = None
    content: str | None = None
    cancel: CancelRecord | None = None
    step_results: list[Any] = field(default_factory=list)
    run_output: Any | None = field(default=None, compare=False)  #: the WorkflowRunOutput

    status: ClassVar[RunStatus] = RunStatus.cancelled
    is_terminal: ClassVar[bool] = True
    is_cancelled: ClassVar[bool] = True
    _status_attribute: ClassVar[bool] = True
    _not_serialized: ClassVar[frozenset[str]] = frozenset({"run_output"})
    _revivers: ClassVar[Mapping[str, Reviver]] = {"cancel": reviver(CancelRecord)}


@workflow_event
class WorkflowErrorEvent(BaseWorkflowRunOutputEvent):
    """Terminal: the run failed."""

    event: str = WorkflowRunEvent.workflow_error.value
    error: str | None = None
    error_type: str | None = None
    error_id: str | None = None
    additional_data: dict[str, Any] | None = None

    status: ClassVar[RunStatus] = RunStatus.error
    is_terminal: ClassVar[bool] = True
    is_error: ClassVar[bool] = True
    _status_attribute: ClassVar[bool] = True


@workflow_event
class WorkflowPausedEvent(BaseWorkflowRunOutputEvent):
    """The run waits for a human. Not terminal: the run continues later, or is cancelled."""

    event: str = WorkflowRunEvent.workflow_paused.value
    paused_step_index: int | None = None
    paused_step_name: str | None = None
    pause_kind: str | None = None
    step_requirements: list[Any] | None = None
    step_results: list[Any] | None = None
    step_executor_runs: list[Any] | None = None
    content: Any | None = None
    metadata: dict[str, Any] | None = None

    status: ClassVar[RunStatus] = RunStatus.paused
    is_paused: ClassVar[bool] = True
    _status_attribute: ClassVar[bool] = True
    _revivers: ClassVar[Mapping[str, Reviver]] = {"step_executor_runs": list_of(output_from_dict)}
