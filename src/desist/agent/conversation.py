"""`Conversation`: the messages and tool calls of one agent run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from desist.run.records.message import Message, ToolExecution
from desist.run.records.metrics import RunMetrics, Usage

__all__ = ["Conversation"]


@dataclass(slots=True)
class Conversation:
    """What model turns and tool calls read and extend. Changed only through `Run.emit` and `Run.commit`."""

    common: dict[str, Any] = field(default_factory=dict)  #: the fields that all events of the run carry
    messages: list[Message] = field(default_factory=list)
    history: list[Message] = field(default_factory=list)  #: of earlier runs: sent to the model, not stored again
    executions: list[ToolExecution] = field(default_factory=list)
    metrics: RunMetrics = field(default_factory=RunMetrics)
    tool_calls: int = 0  #: how many were made, for the limit

    def model_messages(self) -> list[Message]:
        """Return what is sent to the model: the system message, earlier runs, this run."""
        own = self.messages
        cut = 1 if own and own[0].role == "system" else 0
        return [*own[:cut], *self.history, *own[cut:]]

    def count(self, usage: Usage, first: float | None) -> None:
        """Count one model call. `first` is the seconds until its first chunk."""
        self.metrics.add(usage)
        self.metrics.model_calls += 1
        if self.metrics.time_to_first_token is None:
            self.metrics.time_to_first_token = first

    def reset(self) -> None:
        """Remove the messages and tool calls, for another attempt. Metrics and the count of tool calls stay."""
        self.messages.clear()
        self.executions.clear()
