"""What of a run is text that somebody says, and to which message it belongs. For protocols that tell a run as messages.

Pure. Pieces of different messages come mixed, where branches run side by side.
"""

from __future__ import annotations

from typing import Any

from desist.run.events.base import content_text

__all__ = ["Key", "content_delta", "ends_text", "key_of"]

Key = tuple[Any, ...]

_TEXT = frozenset({"RunContent", "RunIntermediateContent"})
_ENDS = frozenset({"ModelRequestCompleted", "RunContentCompleted", "ToolCallStarted"})


def key_of(what: str, event: Any) -> Key:
    """Return what tells a thing of a step from others of its kind; a run's id is always the second."""
    return (what, event.run_id, event.step_id, event.step_index)


def content_delta(event: Any) -> tuple[Key, str | None, str] | None:
    """Return a piece of text: of which message it is, who says it, what; None for an event that is none."""
    if event.event in _TEXT:
        return ("text", event.run_id), event.agent_name or None, content_text(event.content)
    if event.event == "StepOutput" and event.is_content:
        return key_of("text", event), event.step_name, content_text(event.content)
    return None


def ends_text(event: Any) -> Key | None:
    """Return the message of an agent that is complete with this event."""
    return ("text", event.run_id) if event.event in _ENDS else None
