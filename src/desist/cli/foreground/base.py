"""`ForegroundRun`: the protocol of a run that a command has started, in this process or on a server."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from desist.cancel.reason import Source
from desist.run.events.codec import event_from_dict
from desist.run.records.json_values import to_json_value
from desist.workflow.types import StepOutput

__all__ = ["ForegroundRun", "SentEvent", "event_from_server"]


@dataclass(frozen=True, slots=True)
class SentEvent:
    """One event, with the JSON that a server sent, if any."""

    event: Any
    sent: dict[str, Any] | None = None  #: the JSON from the server

    def plain(self) -> dict[str, Any]:
        """Return the event as JSON values."""
        if self.sent is not None:
            return self.sent
        data: dict[str, Any] = to_json_value(self.event)
        return data | {"event_index": self.event.event_index}


class ForegroundRun(Protocol):
    """A live run that a command shows."""

    run_id: str
    began_at: float  #: seconds of `time.monotonic`

    def events(self) -> Generator[SentEvent, None, None]:
        """Return the events up to the terminal event. Closing the generator earlier cancels the run."""

    def cancel(self, source: Source, text: str, *, force: bool) -> str | None:
        """Cancel the run; return None, or the error if the request failed. Thread-safe."""

    def progress(self) -> str:
        """Return the progress of a cancel: what was closed, what the run waits for. Thread-safe."""

    def output(self) -> dict[str, Any]:
        """Return the output of the ended run."""

    def close(self) -> None:
        """Release all resources."""


def event_from_server(data: Mapping[str, Any]) -> Any:
    """Return an event from its JSON, with the id of its own run instead of the run whose stream contained it."""
    event = event_from_dict(data)
    event.run_id = data.get("event_run_id") or _inner_run(data) or event.run_id
    for name in ("step_output", "step_response", "step_results"):  # types that the codec can't import
        if getattr(event, name, None) is not None:
            setattr(event, name, _steps(getattr(event, name)))
    return event


def _inner_run(data: Mapping[str, Any]) -> str | None:
    """Return an id for the inner run of an event, so that its end isn't taken for the end of the whole run."""
    agent = data.get("parent_run_id") or data.get("workflow_run_id") if "agent_id" in data else None
    inside = agent or data.get("parent_step_id")
    return str(data.get("step_id") or inside) if inside else None


def _steps(value: Any) -> Any:
    if isinstance(value, list):
        return [_steps(one) for one in value]
    return StepOutput.from_dict(value) if isinstance(value, dict) else value
