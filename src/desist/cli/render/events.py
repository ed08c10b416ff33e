"""Format an event as one line."""

from __future__ import annotations

from typing import Any

from desist.console.format import one_line
from desist.run.events.base import content_text

__all__ = ["format_event", "style_of_event"]

_STYLES = (
    ("Cancelled", "yellow"),
    ("Error", "red"),
    ("Completed", "green"),
    ("Started", "cyan"),
    ("Paused", "magenta"),
)


def style_of_event(name: str) -> str:
    """Return the style of an event's name."""
    return next((style for ending, style in _STYLES if name.endswith(ending)), "")


def format_event(event: dict[str, Any]) -> str:
    """Return the source of an event and its content."""
    tool = event.get("tool") or {}
    cancel = event.get("cancel") or {}
    content = event.get("content")
    if content is None:
        content = (event.get("step_output") or {}).get("content")
    parts = [
        event.get("step_name") or event.get("agent_name") or event.get("workflow_name"),
        f"{tool['tool_name']}()" if tool.get("tool_name") else None,
        event.get("error"),
        f"{cancel.get('source')}: {cancel.get('reason') or ''}" if cancel else event.get("reason"),
        repr(one_line(content_text(content), 120)) if content is not None else None,
    ]
    return " · ".join(one_line(part, 160) for part in parts if part)
