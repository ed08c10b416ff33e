"""Render the list of runs of `desist watch`: as many runs as fit the screen."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from desist.cli.client import RunInfo
from desist.cli.render.run_table import age_text, format_reason
from desist.cli.render.status import status_text
from desist.console.format import one_line

__all__ = ["list_table"]

_COLUMNS = (("  RUN", None), ("STATUS", None), ("WHAT", 2), ("STEP", 2), ("AGE", None), ("WHY", 2))


def list_table(console: Console, runs: Sequence[RunInfo], selected: int, height: int, *, stale: bool) -> Table:
    """Return a table of the `height` runs around the selected one. With `stale`, all runs are dim."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    for name, ratio in _COLUMNS:
        if name != "WHY" or console.width >= 100:
            table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=ratio)
    first = min(max(0, selected - height + 1), max(0, len(runs) - height))
    for index, run in enumerate(runs[first : first + height], first):
        status = status_text(run.status, console.encoding)
        cells = [
            Text(("▸ " if index == selected else "  ") + run.run_id[:8]),
            Text(status.plain) if index == selected else status,
            Text(one_line(run.what, 60)),
            Text(" › ".join(one_line(step, 40) for step in run.steps)),
            Text(age_text(run)),
            format_reason(run),
        ]
        style = "bold reverse" if index == selected else "dim" if stale or not run.is_live else ""
        table.add_row(*cells[: len(table.columns)], style=style)
    return table
