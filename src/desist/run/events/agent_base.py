"""The base of an agent's events: their names, the base class, the input, and the custom event.

The events themselves are in `agent`; `desist.run.agent` is the face of both. `event` holds the plain string,
so that it compares equal to a member of `RunEvent` and is JSON already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from desist.run.events.base import BaseRunOutputEvent, CustomFields, now
from desist.run.events.registry import AGENT_EVENTS
from desist.run.records.message import ToolExecution
from desist.run.records.record import Record, Reviver, list_of, record_class, reviver

__all__ = ["BaseAgentRunEvent", "CustomEvent", "RunEvent", "RunInput"]


class RunEvent(str, Enum):
    """The names of an agent's events. Some are of features that desist doesn't have: they are never sent."""

    run_started = "RunStarted"
    run_content = "RunContent"
    run_content_completed = "RunContentCompleted"
    run_intermediate_content = "RunIntermediateContent"
    run_completed = "RunCompleted"
    run_error = "RunError"
    run_cancelled = "RunCancelled"
    run_paused = "RunPaused"
    run_continued = "RunContinued"
    pre_hook_started = "PreHookStarted"
    pre_hook_completed = "PreHookCompleted"
    post_hook_started = "PostHookStarted"
    post_hook_completed = "PostHookCompleted"
    tool_call_started = "ToolCallStarted"
    tool_call_completed = "ToolCallCompleted"
    tool_call_error = "ToolCallError"
    tool_call_cancelled = "ToolCallCancelled"  #: ours
    reasoning_started = "ReasoningStarted"
    reasoning_step = "ReasoningStep"
    reasoning_content_delta = "ReasoningContentDelta"
    reasoning_completed = "ReasoningCompleted"
    memory_update_started = "MemoryUpdateStarted"
    memory_update_completed = "MemoryUpdateCompleted"
    session_summary_started = "SessionSummaryStarted"
    session_summary_completed = "SessionSummaryCompleted"
    parser_model_response_started = "ParserModelResponseStarted"
    parser_model_response_completed = "ParserModelResponseCompleted"
    output_model_response_started = "OutputModelResponseStarted"
    output_model_response_completed = "OutputModelResponseCompleted"
    model_request_started = "ModelRequestStarted"
    model_request_completed = "ModelRequestCompleted"
    compression_started = "CompressionStarted"
    compression_completed = "CompressionCompleted"
    compaction_started = "CompactionStarted"
    compaction_completed = "CompactionCompleted"
    followups_started = "FollowupsStarted"
    followups_completed = "FollowupsCompleted"
    custom_event = "CustomEvent"


@record_class
class RunInput(Record):
    """The input of a run: text, data or messages, and media."""

    input_content: Any
    images: list[Any] | None = None
    videos: list[Any] | None = None
    audios: list[Any] | None = None
    files: list[Any] | None = None


@record_class
class BaseAgentRunEvent(BaseRunOutputEvent):
    """The base of all events of an agent. Inside a workflow `workflow_run_id` is the root's id."""

    created_at: int = field(default_factory=now)
    event: str = ""
    agent_id: str = ""
    agent_name: str = ""
    run_id: str | None = None
    parent_run_id: str | None = None
    session_id: str | None = None
    workflow_id: str | None = None
    workflow_run_id: str | None = None
    step_id: str | None = None
    step_name: str | None = None
    step_index: int | tuple[int, ...] | None = None
    nested_depth: int = 0
    tools: list[ToolExecution] | None = None
    content: Any | None = None

    _revivers: ClassVar[Mapping[str, Reviver]] = {
        "tools": list_of(reviver(ToolExecution)),
        "step_index": lambda value: tuple(value) if isinstance(value, list) else value,
    }


@dataclass(kw_only=True, eq=False, repr=False, init=False)
class CustomEvent(CustomFields, BaseAgentRunEvent):
    """An event of the program: takes any keyword, and may be subclassed as a dataclass."""

    event: str = RunEvent.custom_event.value
    workflow_name: str | None = None
    parent_step_id: str | None = None


AGENT_EVENTS[CustomEvent.event] = CustomEvent
