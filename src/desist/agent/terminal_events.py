"""The terminal event of an agent's run, made from its output: when the run ends, and for later readers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from desist.run.agent import RunCancelledEvent, RunCompletedEvent, RunErrorEvent, RunOutput, RunPausedEvent
from desist.run.events.base import RunStatus

__all__ = ["cancelled", "completed", "failed", "paused", "terminal_event"]


def completed(output: RunOutput, common: Mapping[str, Any]) -> RunCompletedEvent:
    """Return the event of a completed run. `common` has the fields that all events of the run carry."""
    return RunCompletedEvent(
        **common,
        content=output.content,
        content_type=output.content_type,
        reasoning_content=output.reasoning_content,
        finish_reason=output.finish_reason,
        metrics=output.metrics,
        metadata=output.metadata,
        session_state=output.session_state,
    )


def cancelled(output: RunOutput, common: Mapping[str, Any]) -> RunCancelledEvent:
    """Return the event of a run that was cancelled; its content is the partial text."""
    reason = output.cancel.reason if output.cancel else None
    return RunCancelledEvent(**common, content=output.content, reason=reason, cancel=output.cancel)


def paused(output: RunOutput, common: Mapping[str, Any], waiting: list[Any]) -> RunPausedEvent:
    """Return the event of a run that waits for a human. It is the last one of the stream, and not terminal."""
    tools = [one.tool_execution for one in waiting if one.tool_execution is not None]
    return RunPausedEvent(**common, content=output.content, tools=tools or None, requirements=waiting)


def failed(output: RunOutput, common: Mapping[str, Any], error_type: str | None = None) -> RunErrorEvent:
    """Return the event of a run that failed."""
    return RunErrorEvent(**common, content=output.error, error_type=error_type)


def terminal_event(output: RunOutput) -> Any:
    """Return the terminal event of a run that has ended."""
    make: Any = {RunStatus.completed: completed, RunStatus.cancelled: cancelled}.get(output.status, failed)
    return make(
        output,
        {
            "agent_id": output.agent_id or "",
            "agent_name": output.agent_name or "",
            "run_id": output.run_id,
            "session_id": output.session_id,
        },
    )
