"""Render the result of a foreground run: its steps as a tree, and its end."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from desist.cli.render.run_details import format_usage, step_tree
from desist.cli.render.status import sign_of
from desist.console import cancel_rows, end_panel, seconds
from desist.console.end_panel import ResultCounts
from desist.console.format import clean
from desist.run.records.json_values import to_json_value

__all__ = ["result_panel"]


def result_panel(event: Any, duration: float, console: Console) -> RenderableType:
    """Return the renderable of a run's result.

    Parameters:
        event: the terminal event of the run.
        duration: seconds that the run took.
    """
    results = getattr(event, "step_results", None)
    parts: list[RenderableType] = []
    if results:
        parts += [Text(""), step_tree({"step_results": to_json_value(results)}, console.encoding)]
    return Group(
        *parts,
        Text(""),
        _last(event, ResultCounts(getattr(event, "content", None), results), duration, console.encoding),
    )


def _last(event: Any, counts: ResultCounts, duration: float, encoding: str) -> RenderableType:
    if event.is_cancelled:
        rows = cancel_rows(event.cancel, counts)
        return end_panel(f"cancelled after {seconds(duration)}", rows, "yellow", encoding)
    if event.is_error or not event.is_terminal:
        message = getattr(event, "error", None) or getattr(event, "content", None) or "no reason was given"
        return Text(
            f"{sign_of('ERROR', encoding)} failed after {seconds(duration)}: {clean(str(message), encoding)}",
            style="red",
        )
    used = format_usage({"metrics": to_json_value(getattr(event, "metrics", None) or {})})
    parts = [f"{sign_of('COMPLETED', encoding)} completed in {seconds(duration)}", *([used] if used else [])]
    return Text(" · ".join(parts), style="green")
