"""The events of an agent's run: one small dataclass each, built on the hot path. `desist.run.agent` is their face.

Made by the agent's run, read by programs, the store and the server. They know nothing of workflows but ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from desist.run.events.agent_base import BaseAgentRunEvent, CustomEvent, RunEvent, RunInput
from desist.run.events.base import CancelRecord, RunStatus
from desist.run.events.registry import AGENT_EVENTS, agent_event
from desist.run.records.message import Message, ToolExecution
from desist.run.records.metrics import RunMetrics
from desist.run.records.record import Reviver, list_of, record_class, reviver
from desist.run.records.requirement_revivers import revive_run_requirements

if TYPE_CHECKING:
    from desist.run.records.run_requirement import RunRequirement

__all__ = [
    "IntermediateRunContentEvent",
    "ModelRequestCompletedEvent",
    "ModelRequestStartedEvent",
    "PostHookCompletedEvent",
    "PostHookStartedEvent",
    "PreHookCompletedEvent",
    "PreHookStartedEvent",
    "ReasoningCompletedEvent",
    "ReasoningContentDeltaEvent",
    "ReasoningStartedEvent",
    "ReasoningStepEvent",
    "RunCancelledEvent",
    "RunCompletedEvent",
    "RunContentCompletedEvent",
    "RunContentEvent",
    "RunContinuedEvent",
    "RunErrorEvent",
    "RunPausedEvent",
    "RunStartedEvent",
    "ToolCallCancelledEvent",
    "ToolCallCompletedEvent",
    "ToolCallErrorEvent",
    "ToolCallStartedEvent",
    "agent_event_from_dict",
]

_messages = list_of(reviver(Message))


@agent_event
class RunStartedEvent(BaseAgentRunEvent):
    """The run began."""

    event: str = RunEvent.run_started.value
    model: str = ""
    model_provider: str = ""


@agent_event
class RunContentEvent(BaseAgentRunEvent):
    """A part of the text of the answer."""

    event: str = RunEvent.run_content.value
    workflow_agent: bool = False
    content_type: str = "str"
    reasoning_content: str | None = None
    model_provider_data: dict[str, Any] | None = None
    citations: Any | None = None
    response_audio: Any | None = None
    image: Any | None = None
    references: list[Any] | None = None
    additional_input: list[Message] | None = None
    reasoning_steps: list[Any] | None = None
    reasoning_messages: list[Message] | None = None

    is_content: ClassVar[bool] = True
    _revivers: ClassVar[Mapping[str, Reviver]] = {
        **BaseAgentRunEvent._revivers,
        "additional_input": _messages,
        "reasoning_messages": _messages,
    }


@agent_event
class RunContentCompletedEvent(BaseAgentRunEvent):
    """The text of the answer is complete; the run has not ended yet."""

    event: str = RunEvent.run_content_completed.value


@agent_event
class IntermediateRunContentEvent(BaseAgentRunEvent):
    """Text that is not part of the final answer."""

    event: str = RunEvent.run_intermediate_content.value
    content_type: str = "str"

    is_content: ClassVar[bool] = True


@agent_event
class RunCompletedEvent(BaseAgentRunEvent):
    """Terminal: the run completed; `content` is the whole answer."""

    event: str = RunEvent.run_completed.value
    content_type: str = "str"
    reasoning_content: str | None = None
    finish_reason: str | None = None  #: why the last answer ended
    citations: Any | None = None
    model_provider_data: dict[str, Any] | None = None
    images: list[Any] | None = None
    videos: list[Any] | None = None
    audio: list[Any] | None = None
    files: list[Any] | None = None
    response_audio: Any | None = None
    references: list[Any] | None = None
    additional_input: list[Message] | None = None
    reasoning_steps: list[Any] | None = None
    reasoning_messages: list[Message] | None = None
    metadata: dict[str, Any] | None = None
    metrics: RunMetrics | None = None
    session_state: dict[str, Any] | None = None

    status: ClassVar[RunStatus] = RunStatus.completed
    is_terminal: ClassVar[bool] = True
    _status_attribute: ClassVar[bool] = True
    _revivers: ClassVar[Mapping[str, Reviver]] = {**RunContentEvent._revivers, "metrics": reviver(RunMetrics)}


@agent_event
class RunErrorEvent(BaseAgentRunEvent):
    """Terminal: the run failed; `content` is the error's message."""

    event: str = RunEvent.run_error.value
    content: str | None = None
    error_type: str | None = None
    error_id: str | None = None
    additional_data: dict[str, Any] | None = None

    status: ClassVar[RunStatus] = RunStatus.error
    is_terminal: ClassVar[bool] = True
    is_error: ClassVar[bool] = True
    _status_attribute: ClassVar[bool] = True


@agent_event
class RunCancelledEvent(BaseAgentRunEvent):
    """Terminal: the run was cancelled; `content` is all text received before the decision."""

    event: str = RunEvent.run_cancelled.value
    reason: str | None = None
    cancel: CancelRecord | None = None

    status: ClassVar[RunStatus] = RunStatus.cancelled
    is_terminal: ClassVar[bool] = True
    is_cancelled: ClassVar[bool] = True
    _status_attribute: ClassVar[bool] = True
    _revivers: ClassVar[Mapping[str, Reviver]] = {
        **BaseAgentRunEvent._revivers,
        "cancel": reviver(CancelRecord),
    }


@agent_event
class RunPausedEvent(BaseAgentRunEvent):
    """The run waits for a human. Not terminal: the run continues later, or is cancelled."""

    event: str = RunEvent.run_paused.value
    requirements: list[RunRequirement] | None = None

    is_paused: ClassVar[bool] = True
    _revivers: ClassVar[Mapping[str, Reviver]] = {
        **BaseAgentRunEvent._revivers,
        "requirements": revive_run_requirements,
    }

    @property
    def active_requirements(self) -> list[RunRequirement]:
        """What the run waits for."""
        return [one for one in self.requirements or [] if not one.is_resolved()]


@agent_event
class RunContinuedEvent(BaseAgentRunEvent):
    """A paused or cancelled run continues."""

    event: str = RunEvent.run_continued.value


@record_class
class _PreHookEvent(BaseAgentRunEvent):
    pre_hook_name: str | None = None
    run_input: RunInput | None = None

    _revivers: ClassVar[Mapping[str, Reviver]] = {**BaseAgentRunEvent._revivers, "run_input": reviver(RunInput)}


@agent_event
class PreHookStartedEvent(_PreHookEvent):
    """A hook before the run began."""

    event: str = RunEvent.pre_hook_started.value


@agent_event
class PreHookCompletedEvent(_PreHookEvent):
    """A hook before the run ended."""

    event: str = RunEvent.pre_hook_completed.value


@agent_event
class PostHookStartedEvent(BaseAgentRunEvent):
    """A hook after the run began."""

    event: str = RunEvent.post_hook_started.value
    post_hook_name: str | None = None


@agent_event
class PostHookCompletedEvent(BaseAgentRunEvent):
    """A hook after the run ended."""

    event: str = RunEvent.post_hook_completed.value
    post_hook_name: str | None = None


@record_class
class _ToolCallEvent(BaseAgentRunEvent):
    tool: ToolExecution | None = None

    _revivers: ClassVar[Mapping[str, Reviver]] = {**BaseAgentRunEvent._revivers, "tool": reviver(ToolExecution)}


@agent_event
class ToolCallStartedEvent(_ToolCallEvent):
    """A tool was called."""

    event: str = RunEvent.tool_call_started.value


@agent_event
class ToolCallCompletedEvent(_ToolCallEvent):
    """A tool returned."""

    event: str = RunEvent.tool_call_completed.value
    images: list[Any] | None = None
    videos: list[Any] | None = None
    audio: list[Any] | None = None
    files: list[Any] | None = None


@agent_event
class ToolCallErrorEvent(_ToolCallEvent):
    """A tool failed."""

    event: str = RunEvent.tool_call_error.value
    error: str | None = None


@agent_event
class ToolCallCancelledEvent(_ToolCallEvent):
    """A tool call was cancelled, or abandoned: `tool.abandoned` says which."""

    event: str = RunEvent.tool_call_cancelled.value
    reason: str | None = None


@agent_event
class ReasoningStartedEvent(BaseAgentRunEvent):
    """The model began to reason."""

    event: str = RunEvent.reasoning_started.value


@agent_event
class ReasoningStepEvent(BaseAgentRunEvent):
    """A step of reasoning is complete."""

    event: str = RunEvent.reasoning_step.value
    content_type: str = "str"
    reasoning_content: str = ""


@agent_event
class ReasoningContentDeltaEvent(BaseAgentRunEvent):
    """A part of the reasoning text."""

    event: str = RunEvent.reasoning_content_delta.value
    reasoning_content: str = ""

    is_content: ClassVar[bool] = True


@agent_event
class ReasoningCompletedEvent(BaseAgentRunEvent):
    """The reasoning is complete."""

    event: str = RunEvent.reasoning_completed.value
    content_type: str = "str"


@agent_event
class ModelRequestStartedEvent(BaseAgentRunEvent):
    """A request was sent to a model."""

    event: str = RunEvent.model_request_started.value
    model: str | None = None
    model_provider: str | None = None


@agent_event
class ModelRequestCompletedEvent(BaseAgentRunEvent):
    """A model's answer has ended: why, its tokens, and the seconds to the first one."""

    event: str = RunEvent.model_request_completed.value
    model: str | None = None
    model_provider: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    time_to_first_token: float | None = None
    reasoning_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    finish_reason: str | None = None  #: why the answer ended: "stop", "tool_calls", "length", ...


def agent_event_from_dict(data: Mapping[str, Any]) -> BaseAgentRunEvent:
    """Build an agent's event by its name. An event of an unknown name becomes a `CustomEvent` with the same keys.

    Raises:
        DesistError: a field's value has the wrong shape.
    """
    event = AGENT_EVENTS.get(data.get("event", ""), CustomEvent).from_dict(data)
    assert isinstance(event, BaseAgentRunEvent)
    return event
