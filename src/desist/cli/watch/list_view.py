"""Render many runs as a table that fits the screen."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from desist.cli.client import RunInfo
from desist.cli.render.run_table import format_reason
from desist.cli.render.status import status_text
from desist.cli.watch.run_view import age_of
from desist.console.format import one_line

__all__ = ["render_list"]


def render_list(console: Console, runs: Sequence[RunInfo], selected: int, height: int, *, stale: bool) -> Table:
    """Return a table of the runs around the selected one: a header and `height` lines."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    wide = console.width >= 100
    table.add_column("  RUN", no_wrap=True)
    table.add_column("STATUS", no_wrap=True)
    table.add_column("WHAT", no_wrap=True, overflow="ellipsis", ratio=2)
    table.add_column("STEP", no_wrap=True, overflow="ellipsis", ratio=2)
    table.add_column("AGE", no_wrap=True, justify="right")
    if wide:
        table.add_column("WHY", no_wrap=True, overflow="ellipsis", ratio=2, style="dim")
    first = min(max(0, selected - height + 1), max(0, len(runs) - height))
    for index, run in enumerate(runs[first : first + height], first):
        status = status_text(run.status, console.encoding)
        cells = [
            Text(("▸ " if index == selected else "  ") + run.run_id[:8]),
            Text(status.plain) if index == selected else status,
            Text(one_line(run.what, 60)),
            Text(" › ".join(one_line(step, 40) for step in run.steps)),
            Text(age_of(run)),
            *([format_reason(run)] if wide else []),
        ]
        table.add_row(*cells, style="bold reverse" if index == selected else "dim" if stale or not run.is_live else "")
    for _ in range(height - len(runs)):
        table.add_row("")
    return table
