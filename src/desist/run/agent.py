"""The public face of an agent's events and output; the classes live in `agent_base`, `agent`, `agent`.

Imported by programs that read a run. Nothing is defined here but the name of "any event of an agent".
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

#: Any event of an agent's stream; works with `isinstance`.
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
