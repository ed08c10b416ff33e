"""Assigns the text of a run to messages, for protocols that represent a run as messages.

Pure. Pieces of different messages are interleaved when branches run in parallel.
"""

from __future__ import annotations

from typing import Any

from desist.run.events.base import content_text

__all__ = ["Key", "content_delta", "ends_text", "key_of"]

Key = tuple[Any, ...]

_TEXT = frozenset({"RunContent", "RunIntermediateContent"})
_ENDS = frozenset({"ModelRequestCompleted", "RunContentCompleted", "ToolCallStarted"})


def key_of(what: str, event: Any) -> Key:
    """Return the key of an item of a step. The second element is always the run id."""
    return (what, event.run_id, event.step_id, event.step_index)


def content_delta(event: Any) -> tuple[Key, str | None, str] | None:
    """Return a piece of text as (message key, speaker, text), or None if the event has no text."""
    if event.event in _TEXT:
        return ("text", event.run_id), event.agent_name or None, content_text(event.content)
    if event.event == "StepOutput" and event.is_content:
        return key_of("text", event), event.step_name, content_text(event.content)
    return None


def ends_text(event: Any) -> Key | None:
    """Return the key of the agent message that this event completes, or None."""
    return ("text", event.run_id) if event.event in _ENDS else None
