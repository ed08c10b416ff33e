"""The output of an agent's run, returned by `Agent.run` and stored. Public import path: `desist.run.agent`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar

from desist.run.events.agent import agent_event_from_dict
from desist.run.events.agent_base import BaseAgentRunEvent, RunInput
from desist.run.events.base import CancellationStage, CancelRecord, RunStatus, now
from desist.run.events.registry import output_class
from desist.run.outputs.run_output import BaseRunOutput
from desist.run.records.message import Message, ToolExecution
from desist.run.records.metrics import RunMetrics
from desist.run.records.record import Reviver, list_of, record_class, reviver
from desist.run.records.requirement_revivers import revive_run_requirements

if TYPE_CHECKING:
    from desist.run.records.run_requirement import RunRequirement

__all__ = ["RunOutput"]

_messages = list_of(reviver(Message))


@output_class
@record_class
class RunOutput(BaseRunOutput):
    """The result of an agent's run. For a cancelled run, `content` is the partial text, `cancel` the cancel record."""

    run_id: str | None = None
    agent_id: str | None = None
    agent_name: str | None = None
    session_id: str | None = None
    parent_run_id: str | None = None
    workflow_id: str | None = None
    user_id: str | None = None
    input: RunInput | None = None
    content: Any | None = None
    content_type: str = "str"
    reasoning_content: str | None = None
    finish_reason: str | None = None  #: why the last answer ended: "stop", "length", ...; None if it is unknown
    reasoning_steps: list[Any] | None = None
    reasoning_messages: list[Message] | None = None
    model_provider_data: dict[str, Any] | None = None
    model: str | None = None
    model_provider: str | None = None
    messages: list[Message] | None = None
    metrics: RunMetrics | None = None
    additional_input: list[Message] | None = None
    tools: list[ToolExecution] | None = None
    images: list[Any] | None = None
    videos: list[Any] | None = None
    audio: list[Any] | None = None
    files: list[Any] | None = None
    response_audio: Any | None = None
    citations: Any | None = None
    references: list[Any] | None = None
    metadata: dict[str, Any] | None = None
    session_state: dict[str, Any] | None = None
    created_at: int = field(default_factory=now)
    events: list[BaseAgentRunEvent] | None = None
    status: RunStatus = RunStatus.running
    cancellation_stage: CancellationStage | None = None
    requirements: list[RunRequirement] | None = None  #: what the run waits for or has waited for, in order
    workflow_step_id: str | None = None
    cancel: CancelRecord | None = None
    continued_from: str | None = None  #: id of the run that this run continues
    error: str | None = None  #: error message of a failed run
    store_error: str | None = None  #: why the run's end is not confirmed as stored

    _revivers: ClassVar[Mapping[str, Reviver]] = {
        "input": reviver(RunInput),
        "reasoning_messages": _messages,
        "messages": _messages,
        "metrics": reviver(RunMetrics),
        "additional_input": _messages,
        "tools": list_of(reviver(ToolExecution)),
        "events": list_of(agent_event_from_dict),
        "requirements": revive_run_requirements,
        "status": RunStatus,
        "cancellation_stage": CancellationStage,
        "cancel": reviver(CancelRecord),
    }

    @property
    def active_requirements(self) -> list[RunRequirement]:
        """What the run waits for now."""
        return [one for one in self.requirements or [] if not one.is_resolved()]

    @property
    def tools_requiring_confirmation(self) -> list[ToolExecution]:
        """The tool calls that wait for a confirmation."""
        return [tool for tool in self._waiting_tools if tool.requires_confirmation]

    @property
    def tools_requiring_user_input(self) -> list[ToolExecution]:
        """The tool calls that wait for values from a human."""
        return [tool for tool in self._waiting_tools if tool.requires_user_input]

    @property
    def tools_awaiting_external_execution(self) -> list[ToolExecution]:
        """The tool calls that the program executes."""
        return [tool for tool in self._waiting_tools if tool.external_execution_required]

    @property
    def _waiting_tools(self) -> list[ToolExecution]:
        return [tool for tool in self.tools or [] if tool.is_paused and tool.ended_at is None and not tool.cancelled]
