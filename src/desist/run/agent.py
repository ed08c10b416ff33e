"""Public import path of an agent's events and output.

The classes are defined in `events.agent_base`, `events.agent` and `outputs.agent`; `RunOutputEvent` is defined here.
"""

from typing import TypeAlias

from desist.run.events.agent import (
    IntermediateRunContentEvent,
    ModelRequestCompletedEvent,
    ModelRequestStartedEvent,
    PostHookCompletedEvent,
    PostHookStartedEvent,
    PreHookCompletedEvent,
    PreHookStartedEvent,
    ReasoningCompletedEvent,
    ReasoningContentDeltaEvent,
    ReasoningStartedEvent,
    ReasoningStepEvent,
    RunCancelledEvent,
    RunCompletedEvent,
    RunContentCompletedEvent,
    RunContentEvent,
    RunContinuedEvent,
    RunErrorEvent,
    RunPausedEvent,
    RunStartedEvent,
    ToolCallCancelledEvent,
    ToolCallCompletedEvent,
    ToolCallErrorEvent,
    ToolCallStartedEvent,
)
from desist.run.events.agent_base import BaseAgentRunEvent, CustomEvent, RunEvent, RunInput
from desist.run.events.base import CancelRecord, RunStatus
from desist.run.outputs.agent import RunOutput

#: Any event of an agent's stream. Supports `isinstance`.
RunOutputEvent: TypeAlias = BaseAgentRunEvent

__all__ = [
    "BaseAgentRunEvent",
    "CancelRecord",
    "CustomEvent",
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
    "RunEvent",
    "RunInput",
    "RunOutput",
    "RunOutputEvent",
    "RunPausedEvent",
    "RunStartedEvent",
    "RunStatus",
    "ToolCallCancelledEvent",
    "ToolCallCompletedEvent",
    "ToolCallErrorEvent",
    "ToolCallStartedEvent",
]
