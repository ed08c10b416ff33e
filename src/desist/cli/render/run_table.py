"""Render many runs as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from desist.cli.client.models import RunInfo
from desist.cli.render.status import status_text
from desist.console import seconds
from desist.console.format import one_line

__all__ = ["age_text", "format_reason", "run_table", "span"]

#: Columns of the console from which sessions and reasons are shown.
_WIDE = 120


def run_table(runs: Sequence[RunInfo], console: Console) -> Table:
    """Return a table with one line per run. Ids are never truncated; a narrow console has fewer columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("RUN", "STATUS"):
        table.add_column(name, no_wrap=True, overflow="fold")
    table.add_column("WHAT", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("BEGAN", no_wrap=True)
    if console.width >= _WIDE:
        table.add_column("SESSION", no_wrap=True, style="dim")
        table.add_column("WHY", overflow="ellipsis", no_wrap=True, style="dim", ratio=2)
    for run in runs:
        cells = [
            Text(run.run_id),
            status_text(run.status, console.encoding),
            Text(one_line(run.what, 40)),
            Text(f"{span(run.age)} ago"),
            Text(one_line(run.session_id or "", 36)),
            format_reason(run),
        ]
        table.add_row(*cells[: len(table.columns)])
    return table


def format_reason(run: RunInfo) -> Text:
    """Return the requester of a cancel and the reason."""
    record = run.cancel or {}
    parts = [record.get("by") or record.get("source"), record.get("reason")]
    return Text(one_line(": ".join(str(part) for part in parts if part), 80))


def age_text(run: RunInfo) -> str:
    """Return the age of a live run, or the duration of an ended one."""
    return span(run.age) if run.is_live else seconds(run.duration) if run.duration is not None else ""


def span(value: float) -> str:
    """Return seconds in one unit: `12 s`, `3 min`, `5 h`, `2 d`."""
    for unit, size, end in (("s", 1, 100), ("min", 60, 6000), ("h", 3600, 48 * 3600)):
        if value < end:
            return f"{value / size:.0f} {unit}"
    return f"{value / 86400:.0f} d"
