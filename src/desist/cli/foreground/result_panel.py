"""The end of a run that a command has shown: its steps as a tree, and how it ended."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from desist.cli.render.receipts import cancel_record_rows
from desist.cli.render.run_details import step_tree, used_words
from desist.cli.render.status import sign_of
from desist.console import end_panel, kept_words, seconds
from desist.console.end_panel import Kept
from desist.console.format import clean
from desist.run.records.json_values import plain

__all__ = ["end_of"]


def end_of(event: Any, took: float, console: Console) -> RenderableType:
    """Return what is shown at the end.

    Parameters:
        event: the last one of the run.
        took: seconds.
    """
    results = getattr(event, "step_results", None)
    parts: list[RenderableType] = []
    if results:
        parts += [Text(""), step_tree({"step_results": plain(results)}, console.encoding)]
    return Group(*parts, Text(""), _last(event, Kept(getattr(event, "content", None), results), took, console.encoding))


def _last(event: Any, kept: Kept, took: float, encoding: str) -> RenderableType:
    if event.is_cancelled:
        record = plain(event.cancel) if event.cancel is not None else {}
        rows = cancel_record_rows(record)
        rows.insert(-1 if rows[-1][0] == "abandoned" else len(rows), ("kept", kept_words(kept), "green"))
        return end_panel(f"cancelled after {seconds(took)}", rows, "yellow", encoding)
    if event.is_error or not event.is_terminal:
        words = getattr(event, "error", None) or getattr(event, "content", None) or "no reason was given"
        return Text(
            f"{sign_of('ERROR', encoding)} failed after {seconds(took)}: {clean(str(words), encoding)}", style="red"
        )
    used = used_words({"metrics": plain(getattr(event, "metrics", None) or {})})
    words = [f"{sign_of('COMPLETED', encoding)} completed in {seconds(took)}", *([used] if used else [])]
    return Text(" · ".join(words), style="green")
