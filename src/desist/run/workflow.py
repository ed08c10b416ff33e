"""Public import path of a workflow's events and output.

The classes are defined in `events.workflow_base`, `events.workflow`, `events.steps`, `events.containers` and
`outputs.workflow`; `WorkflowRunOutputEvent` is defined here.
"""

from typing import TypeAlias

from desist.run.events.base import CancelRecord, RunStatus
from desist.run.events.containers import (
    ConditionExecutionCompletedEvent,
    ConditionExecutionStartedEvent,
    LoopExecutionCompletedEvent,
    LoopExecutionStartedEvent,
    LoopIterationCompletedEvent,
    LoopIterationStartedEvent,
    ParallelExecutionCompletedEvent,
    ParallelExecutionStartedEvent,
    RouterExecutionCompletedEvent,
    RouterExecutionStartedEvent,
    RouterPausedEvent,
    StepsExecutionCompletedEvent,
    StepsExecutionStartedEvent,
)
from desist.run.events.steps import (
    StepCancelledEvent,
    StepCompletedEvent,
    StepContinuedEvent,
    StepErrorEvent,
    StepExecutorContinuedEvent,
    StepExecutorPausedEvent,
    StepOutputEvent,
    StepOutputReviewEvent,
    StepPausedEvent,
    StepProgressEvent,
    StepStartedEvent,
)
from desist.run.events.workflow import (
    WorkflowCancelledEvent,
    WorkflowCompletedEvent,
    WorkflowErrorEvent,
    WorkflowPausedEvent,
    WorkflowStartedEvent,
)
from desist.run.events.workflow_base import BaseStepEvent, BaseWorkflowRunOutputEvent, CustomEvent, WorkflowRunEvent
from desist.run.outputs.workflow import WorkflowMetrics, WorkflowRunOutput

#: Any event of the workflow itself. Supports `isinstance`. Events of the workflow's agents are `RunOutputEvent`s.
WorkflowRunOutputEvent: TypeAlias = BaseWorkflowRunOutputEvent

__all__ = [
    "BaseStepEvent",
    "BaseWorkflowRunOutputEvent",
    "CancelRecord",
    "ConditionExecutionCompletedEvent",
    "ConditionExecutionStartedEvent",
    "CustomEvent",
    "LoopExecutionCompletedEvent",
    "LoopExecutionStartedEvent",
    "LoopIterationCompletedEvent",
    "LoopIterationStartedEvent",
    "ParallelExecutionCompletedEvent",
    "ParallelExecutionStartedEvent",
    "RouterExecutionCompletedEvent",
    "RouterExecutionStartedEvent",
    "RouterPausedEvent",
    "RunStatus",
    "StepCancelledEvent",
    "StepCompletedEvent",
    "StepContinuedEvent",
    "StepErrorEvent",
    "StepExecutorContinuedEvent",
    "StepExecutorPausedEvent",
    "StepOutputEvent",
    "StepOutputReviewEvent",
    "StepPausedEvent",
    "StepProgressEvent",
    "StepStartedEvent",
    "StepsExecutionCompletedEvent",
    "StepsExecutionStartedEvent",
    "WorkflowCancelledEvent",
    "WorkflowCompletedEvent",
    "WorkflowErrorEvent",
    "WorkflowMetrics",
    "WorkflowPausedEvent",
    "WorkflowRunEvent",
    "WorkflowRunOutput",
    "WorkflowRunOutputEvent",
    "WorkflowStartedEvent",
]
