"""Render many runs as a table."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from desist.cli.client.models import RunInfo
from desist.cli.render.status import status_text
from desist.console.format import one_line

__all__ = ["ago", "format_reason", "run_table"]


def run_table(runs: Sequence[RunInfo], console: Console) -> Table:
    """Return a table with one line per run."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("RUN", "STATUS", "WHAT", "BEGAN"):
        table.add_column(name, no_wrap=True)
    table.add_column("SESSION", no_wrap=True, style="dim")
    table.add_column("WHY", overflow="ellipsis", no_wrap=True, style="dim")
    for run in runs:
        status = status_text(run.status, console.encoding)
        session = Text(one_line(run.session_id or "", 36))
        table.add_row(Text(run.run_id), status, Text(one_line(run.what, 40)), ago(run.age), session, format_reason(run))
    return table


def format_reason(run: RunInfo) -> Text:
    """Return the requester of a cancel and the reason."""
    record = run.cancel or {}
    parts = [record.get("by") or record.get("source"), record.get("reason")]
    return Text(one_line(": ".join(str(part) for part in parts if part), 80))


def ago(seconds: float) -> str:
    """Return `12 s ago`, `3 min ago`, `5 h ago`, or a date."""
    if seconds < 100:
        return f"{seconds:.0f} s ago"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min ago"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h ago"
    return time.strftime("%Y-%m-%d", time.localtime(time.time() - seconds))
