"""The base of a workflow's events: their names, the two base classes, and the custom event.

The events themselves are in `workflow` (the run), `steps` and `containers`; `desist.run.workflow`
is the face of all. `event` holds the plain string, which compares equal to a member of `WorkflowRunEvent`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from desist.run.events.base import BaseRunOutputEvent, CustomFields, RunStatus, now
from desist.run.events.registry import WORKFLOW_EVENTS
from desist.run.records.record import Reviver, record_class

__all__ = [
    "STEP_COMPLETED",
    "STEP_STARTED",
    "BaseStepEvent",
    "BaseWorkflowRunOutputEvent",
    "CustomEvent",
    "StepIndex",
    "WorkflowRunEvent",
]

#: The position of a step among its siblings; a tuple inside a container, the outermost position first.
StepIndex = int | tuple[int, ...]


class WorkflowRunEvent(str, Enum):
    """The names of a workflow's events. Some are of features that desist doesn't have: they are never sent."""

    workflow_started = "WorkflowStarted"
    workflow_completed = "WorkflowCompleted"
    workflow_paused = "WorkflowPaused"
    workflow_cancelled = "WorkflowCancelled"
    workflow_error = "WorkflowError"
    workflow_agent_started = "WorkflowAgentStarted"
    workflow_agent_completed = "WorkflowAgentCompleted"
    step_started = "StepStarted"
    step_completed = "StepCompleted"
    step_cancelled = "StepCancelled"  #: ours
    step_progress = "StepProgress"
    step_paused = "StepPaused"
    step_continued = "StepContinued"
    step_executor_paused = "StepExecutorPaused"
    step_executor_continued = "StepExecutorContinued"
    step_output_review = "StepOutputReview"
    step_error = "StepError"
    loop_execution_started = "LoopExecutionStarted"
    loop_iteration_started = "LoopIterationStarted"
    loop_iteration_completed = "LoopIterationCompleted"
    loop_execution_completed = "LoopExecutionCompleted"
    parallel_execution_started = "ParallelExecutionStarted"
    parallel_execution_completed = "ParallelExecutionCompleted"
    condition_execution_started = "ConditionExecutionStarted"
    condition_execution_completed = "ConditionExecutionCompleted"
    condition_paused = "ConditionPaused"
    router_execution_started = "RouterExecutionStarted"
    router_execution_completed = "RouterExecutionCompleted"
    router_paused = "RouterPaused"
    steps_execution_started = "StepsExecutionStarted"
    steps_execution_completed = "StepsExecutionCompleted"
    step_output = "StepOutput"
    custom_event = "CustomEvent"


def _names_with(*endings: str) -> frozenset[str]:
    return frozenset(name.value for name in WorkflowRunEvent if name.value.endswith(endings))


#: The names of the events with which steps and containers start, and with which they complete.
STEP_STARTED = _names_with("StepStarted", "ExecutionStarted")
STEP_COMPLETED = _names_with("StepCompleted", "ExecutionCompleted")


@record_class
class BaseWorkflowRunOutputEvent(BaseRunOutputEvent):
    """The base of all events of a workflow. `run_id` is the run that can be cancelled by it."""

    created_at: int = field(default_factory=now)
    event: str = ""
    workflow_id: str | None = None
    workflow_name: str | None = None
    session_id: str | None = None
    run_id: str | None = None
    step_id: str | None = None
    parent_step_id: str | None = None
    nested_depth: int = 0

    status: ClassVar[RunStatus] = RunStatus.running


def _index(value: Any) -> StepIndex:
    return tuple(value) if isinstance(value, list) else value


@record_class
class BaseStepEvent(BaseWorkflowRunOutputEvent):
    """Base of the events of a step or container."""

    step_name: str | None = None
    step_index: StepIndex | None = None

    _revivers: ClassVar[Mapping[str, Reviver]] = {"step_index": _index}


@dataclass(kw_only=True, eq=False, repr=False, init=False)
class CustomEvent(CustomFields, BaseWorkflowRunOutputEvent):
    """An event of the program: takes any keyword, and may be subclassed as a dataclass."""

    event: str = WorkflowRunEvent.custom_event.value


WORKFLOW_EVENTS[CustomEvent.event] = CustomEvent
