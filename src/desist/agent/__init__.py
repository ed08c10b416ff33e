"""Agents: a model, instructions and tools, run turn by turn, and stopped at once."""

from desist.agent.agent import Agent
from desist.run.agent import (
    RunCancelledEvent,
    RunCompletedEvent,
    RunContentEvent,
    RunErrorEvent,
    RunEvent,
    RunOutput,
    RunOutputEvent,
    RunStartedEvent,
)

__all__ = [
    "Agent",
    "RunCancelledEvent",
    "RunCompletedEvent",
    "RunContentEvent",
    "RunErrorEvent",
    "RunEvent",
    "RunOutput",
    "RunOutputEvent",
    "RunStartedEvent",
]
