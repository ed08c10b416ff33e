"""What a command needs of a run that it has started, wherever that runs."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from desist.cancel.reason import Source
from desist.run.events.codec import event_from_dict
from desist.run.records.json_values import to_json_value
from desist.workflow.types import StepOutput

__all__ = ["ForegroundRun", "SentEvent", "revived"]


@dataclass(frozen=True, slots=True)
class SentEvent:
    """One event."""

    event: Any
    sent: dict[str, Any] | None = None  #: as a server told it

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        if self.sent is not None:
            return self.sent
        data: dict[str, Any] = to_json_value(self.event)
        return data | {"event_index": self.event.event_index}


class ForegroundRun(Protocol):
    """A run that is at work."""

    run_id: str
    began_at: float  #: seconds of `time.monotonic`

    def events(self) -> Generator[SentEvent, None, None]:
        """Return its events to their end. Closing them before stops the run."""

    def stop(self, source: Source, text: str, *, force: bool) -> str | None:
        """Cancel it, from any thread; return why that couldn't be asked for, or None."""

    def doing(self) -> str:
        """Say, while it is being stopped, what has been done and what it waits for. From any thread."""

    def output(self) -> dict[str, Any]:
        """Return what came of it, once it has ended."""

    def close(self) -> None:
        """Let go of what was opened for it."""


def revived(data: Mapping[str, Any]) -> Any:
    """Return an event as it was before it was sent: of its own run, not of the run whose stream it came in."""
    event = event_from_dict(data)
    event.run_id = data.get("event_run_id") or _inner_run(data) or event.run_id
    for name in ("step_output", "step_response", "step_results"):  # what only the workflow's floor knows
        if getattr(event, name, None) is not None:
            setattr(event, name, _steps(getattr(event, name)))
    return event


def _inner_run(data: Mapping[str, Any]) -> str | None:
    """Return something that stands for the run of an event of a part: its end isn't the end of the whole."""
    agent = data.get("parent_run_id") or data.get("workflow_run_id") if "agent_id" in data else None
    inside = agent or data.get("parent_step_id")
    return str(data.get("step_id") or inside) if inside else None


def _steps(value: Any) -> Any:
    if isinstance(value, list):
        return [_steps(one) for one in value]
    return StepOutput.from_dict(value) if isinstance(value, dict) else value
