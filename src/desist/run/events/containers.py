"""The events of the containers: Loop, Parallel, Condition, Router and Steps."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from desist.run.events.registry import workflow_event
from desist.run.events.workflow_base import BaseStepEvent, WorkflowRunEvent

__all__ = [
    "ConditionExecutionCompletedEvent",
    "ConditionExecutionStartedEvent",
    "LoopExecutionCompletedEvent",
    "LoopExecutionStartedEvent",
    "LoopIterationCompletedEvent",
    "LoopIterationStartedEvent",
    "ParallelExecutionCompletedEvent",
    "ParallelExecutionStartedEvent",
    "RouterExecutionCompletedEvent",
    "RouterExecutionStartedEvent",
    "RouterPausedEvent",
    "StepsExecutionCompletedEvent",
    "StepsExecutionStartedEvent",
]


@workflow_event
class LoopExecutionStartedEvent(BaseStepEvent):
    """A loop began."""

    event: str = WorkflowRunEvent.loop_execution_started.value
    max_iterations: int | None = None


@workflow_event
class LoopIterationStartedEvent(BaseStepEvent):
    """A round of a loop began; counted from 1."""

    event: str = WorkflowRunEvent.loop_iteration_started.value
    iteration: int = 0
    max_iterations: int | None = None


@workflow_event
class LoopIterationCompletedEvent(BaseStepEvent):
    """A round of a loop ended."""

    event: str = WorkflowRunEvent.loop_iteration_completed.value
    iteration: int = 0
    max_iterations: int | None = None
    iteration_results: list[Any] = field(default_factory=list)
    should_continue: bool = True


@workflow_event
class LoopExecutionCompletedEvent(BaseStepEvent):
    """A loop ended."""

    event: str = WorkflowRunEvent.loop_execution_completed.value
    total_iterations: int = 0
    max_iterations: int | None = None
    all_results: list[list[Any]] = field(default_factory=list)


@workflow_event
class ParallelExecutionStartedEvent(BaseStepEvent):
    """The branches of a Parallel began."""

    event: str = WorkflowRunEvent.parallel_execution_started.value
    parallel_step_count: int | None = None


@workflow_event
class ParallelExecutionCompletedEvent(BaseStepEvent):
    """All branches of a Parallel ended."""

    event: str = WorkflowRunEvent.parallel_execution_completed.value
    parallel_step_count: int | None = None
    step_results: list[Any] = field(default_factory=list)


@workflow_event
class ConditionExecutionStartedEvent(BaseStepEvent):
    """A condition was evaluated."""

    event: str = WorkflowRunEvent.condition_execution_started.value
    condition_result: bool | None = None


@workflow_event
class ConditionExecutionCompletedEvent(BaseStepEvent):
    """A condition's branch ended."""

    event: str = WorkflowRunEvent.condition_execution_completed.value
    condition_result: bool | None = None
    executed_steps: int | None = None
    branch: str | None = None
    step_results: list[Any] = field(default_factory=list)


@workflow_event
class RouterExecutionStartedEvent(BaseStepEvent):
    """A router has selected its steps."""

    event: str = WorkflowRunEvent.router_execution_started.value
    selected_steps: list[str] = field(default_factory=list)


@workflow_event
class RouterExecutionCompletedEvent(BaseStepEvent):
    """The steps that a router selected ended."""

    event: str = WorkflowRunEvent.router_execution_completed.value
    selected_steps: list[str] = field(default_factory=list)
    executed_steps: int | None = None
    step_results: list[Any] = field(default_factory=list)


@workflow_event
class RouterPausedEvent(BaseStepEvent):
    """A router waits for a human's choice."""

    event: str = WorkflowRunEvent.router_paused.value
    available_choices: list[str] = field(default_factory=list)
    user_input_message: str | None = None
    allow_multiple_selections: bool = False


@workflow_event
class StepsExecutionStartedEvent(BaseStepEvent):
    """A group of steps began."""

    event: str = WorkflowRunEvent.steps_execution_started.value
    steps_count: int | None = None


@workflow_event
class StepsExecutionCompletedEvent(BaseStepEvent):
    """A group of steps ended."""

    event: str = WorkflowRunEvent.steps_execution_completed.value
    steps_count: int | None = None
    executed_steps: int | None = None
    step_results: list[Any] = field(default_factory=list)
