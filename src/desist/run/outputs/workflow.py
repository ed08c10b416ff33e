"""The output of a workflow's run, returned by `Workflow.run` and stored. Public import path: `desist.run.workflow`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar

from desist.run.events.base import BaseRunOutputEvent, CancellationStage, CancelRecord, RunStatus, now
from desist.run.events.codec import event_from_dict
from desist.run.events.registry import output_class, output_from_dict
from desist.run.outputs.agent import RunOutput
from desist.run.outputs.run_output import BaseRunOutput
from desist.run.records.metrics import RunMetrics
from desist.run.records.record import Record, Reviver, list_of, record_class, reviver
from desist.run.records.requirement_revivers import revive_error_requirements, revive_step_requirements

if TYPE_CHECKING:
    from desist.run.records.step_requirement import ErrorRequirement, StepRequirement

__all__ = ["StepMetrics", "WorkflowMetrics", "WorkflowRunOutput"]


@record_class
class StepMetrics(Record):
    """Usage of the steps with one name, summed over all executions."""

    step_name: str | None = None
    executor_type: str | None = None
    executor_name: str | None = None
    runs: int = 0  #: number of executions
    duration: float | None = None  #: seconds, summed over all executions
    metrics: RunMetrics | None = None  #: tokens, calls and seconds of the step's agents; None if there were none

    _revivers: ClassVar[Mapping[str, Reviver]] = {"metrics": reviver(RunMetrics)}


def _steps(value: Mapping[str, Any]) -> dict[str, StepMetrics]:
    revive = reviver(StepMetrics)
    return {name: revive(step) for name, step in value.items()}


@record_class
class WorkflowMetrics(Record):
    """Usage of a workflow's run: its steps by name, including nested steps, and its duration."""

    steps: dict[str, StepMetrics] = field(default_factory=dict)
    duration: float | None = None  #: seconds

    _revivers: ClassVar[Mapping[str, Reviver]] = {"steps": _steps}


@output_class
@record_class
class WorkflowRunOutput(BaseRunOutput):
    """The result of a workflow's run. For a cancelled run, `content` is the partial text, `cancel` the cancel record.

    `step_results` has a `StepOutput` per step, or a list of them for a container. After `from_dict` they are plain
    dicts, which `desist.workflow` converts to `StepOutput`s.
    """

    input: Any | None = None
    content: Any | None = None
    content_type: str = "str"
    workflow_id: str | None = None
    workflow_name: str | None = None
    run_id: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    parent_run_id: str | None = None
    workflow_step_id: str | None = None
    images: list[Any] | None = None
    videos: list[Any] | None = None
    audio: list[Any] | None = None
    files: list[Any] | None = None
    response_audio: Any | None = None
    step_results: list[Any] = field(default_factory=list)
    step_executor_runs: list[Any] | None = None
    workflow_agent_run: RunOutput | None = None
    events: list[BaseRunOutputEvent] | None = None
    metrics: WorkflowMetrics | None = None
    metadata: dict[str, Any] | None = None
    created_at: int = field(default_factory=now)
    status: RunStatus = RunStatus.pending
    cancellation_stage: CancellationStage | None = None
    step_requirements: list[StepRequirement] | None = None  #: what steps wait for or have waited for, in order
    error_requirements: list[ErrorRequirement] | None = None  #: the same of failed steps
    paused_step_index: int | None = None
    paused_step_name: str | None = None
    pause_kind: str | None = None
    cancel: CancelRecord | None = None
    continued_from: str | None = None  #: id of the run that this run continues
    additional_data: dict[str, Any] | None = None  #: as passed to the run
    error: str | None = None  #: error message of a failed run
    store_error: str | None = None  #: why the run's end is not confirmed as stored

    _revivers: ClassVar[Mapping[str, Reviver]] = {
        "step_executor_runs": list_of(output_from_dict),
        "workflow_agent_run": reviver(RunOutput),
        "events": list_of(event_from_dict),
        "metrics": reviver(WorkflowMetrics),
        "step_requirements": revive_step_requirements,
        "error_requirements": revive_error_requirements,
        "status": RunStatus,
        "cancellation_stage": CancellationStage,
        "cancel": reviver(CancelRecord),
    }

    @property
    def active_step_requirements(self) -> list[StepRequirement]:
        """What steps wait for now."""
        return [one for one in self.step_requirements or [] if not one.is_resolved]

    @property
    def active_error_requirements(self) -> list[ErrorRequirement]:
        """The failed steps that wait for a decision."""
        return [one for one in self.error_requirements or [] if not one.is_resolved]

    @property
    def steps_requiring_confirmation(self) -> list[StepRequirement]:
        """The steps that wait for a confirmation."""
        return [one for one in self.step_requirements or [] if one.needs_confirmation]

    @property
    def steps_requiring_user_input(self) -> list[StepRequirement]:
        """The steps that wait for values."""
        return [one for one in self.step_requirements or [] if one.needs_user_input]

    @property
    def steps_requiring_route(self) -> list[StepRequirement]:
        """The routers that wait for a choice."""
        return [one for one in self.step_requirements or [] if one.needs_route_selection]

    @property
    def steps_requiring_output_review(self) -> list[StepRequirement]:
        """The steps whose output waits for a review."""
        return [one for one in self.step_requirements or [] if one.needs_output_review]

    @property
    def steps_requiring_executor_resolution(self) -> list[StepRequirement]:
        """The steps whose agent waits for answers."""
        return [one for one in self.step_requirements or [] if one.needs_executor_input]
