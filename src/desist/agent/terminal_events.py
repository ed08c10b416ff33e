"""The terminal event of an agent's run, made from its output: when the run ends, and for later readers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from desist.run.agent import RunCancelledEvent, RunCompletedEvent, RunErrorEvent, RunOutput
from desist.run.events.base import RunStatus

__all__ = ["cancelled", "completed", "failed", "terminal_event"]


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
