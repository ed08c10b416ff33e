"""The last event of an agent's run, made of its output: told when it ends, and again to who asks much later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from desist.run.agent import RunCancelledEvent, RunCompletedEvent, RunErrorEvent, RunOutput
from desist.run.events.base import RunStatus

__all__ = ["cancelled", "completed", "ending_of", "failed"]


def completed(output: RunOutput, common: Mapping[str, Any]) -> RunCompletedEvent:
    """Return the event of a run that ended well. `common` is what every event of the run carries."""
    return RunCompletedEvent(
        **common,
        content=output.content,
        content_type=output.content_type,
        reasoning_content=output.reasoning_content,
        metrics=output.metrics,
        metadata=output.metadata,
        session_state=output.session_state,
    )


def cancelled(output: RunOutput, common: Mapping[str, Any]) -> RunCancelledEvent:
    """Return the event of a run that was cancelled; its content is what was said by then."""
    reason = output.cancel.reason if output.cancel else None
    return RunCancelledEvent(**common, content=output.content, reason=reason, cancel=output.cancel)


def failed(output: RunOutput, common: Mapping[str, Any], error_type: str | None = None) -> RunErrorEvent:
    """Return the event of a run that failed."""
    return RunErrorEvent(**common, content=output.error, error_type=error_type)


def ending_of(output: RunOutput) -> Any:
    """Return the last event of a run that has ended, made of its record."""
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
