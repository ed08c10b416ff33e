"""Render the result of a cancelled run: the requester, the reason, the content kept, the calls abandoned.

Used by `RunView` and by the command line's receipt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import ROUNDED
from rich.console import RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from desist.cancel.reason import Source
from desist.console.format import clean, count, milliseconds, one_line
from desist.run.events.base import Abandoned, CancelRecord, content_text

__all__ = ["ResultCounts", "Row", "cancel_rows", "end_panel", "format_counts", "format_requester"]

#: A label, a value and the style of the value; a `Text` has its own style.
Row = tuple[str, str | Text, str]

#: The requester to show if the record names nobody.
_REQUESTERS = {
    Source.user: "a call of cancel()",
    Source.parent: "its parent run",
    Source.child: "a cancelled child run",
    Source.sibling: "another branch",
    Source.deadline: "a deadline",
    Source.stall: "the stall limit: no token for too long",
    Source.budget: "a budget",
    Source.consumer_closed: "the reader, which stopped reading",
    Source.client_disconnected: "the client, which disconnected",
    Source.interrupt: "Ctrl-C",
    Source.shutdown: "the shutdown of the program",
    Source.lease_lost: "another worker, which owns the run now",
}


class ResultCounts:
    """The content that a cancelled run kept, counted over its step results, or over its text if it has no steps."""

    def __init__(self, content: Any, results: Iterable[Any] | None) -> None:
        self.finished = 0
        self.interrupted = 0
        self.characters = 0
        if results is None:
            self.characters = len(content_text(content))
        else:
            self._count(results)

    def _count(self, results: Iterable[Any]) -> None:
        for result in results:
            if isinstance(result, list):
                self._count(result)
            elif getattr(result, "steps", None):
                self._count(result.steps)
            else:
                cancelled = getattr(result, "cancelled", False)
                self.interrupted += bool(cancelled)
                self.finished += not cancelled and bool(getattr(result, "success", True))
                self.characters += len(content_text(getattr(result, "content", None)))


def format_counts(counts: ResultCounts) -> str:
    """Return `1 finished step and 1 in part, 1,204 characters`."""
    parts = []
    if counts.finished:
        parts.append(count(counts.finished, "finished step"))
    if counts.interrupted:
        parts.append(f"{counts.interrupted} in part")
    steps = " and ".join(parts)
    text = f"{count(counts.characters, 'character')} of text"
    return f"{steps}, {text}" if steps else text


def cancel_rows(
    record: CancelRecord | None,
    counts: ResultCounts | None = None,
    read_at: float | None = None,
    more: Sequence[Row] = (),
) -> list[Row]:
    """Return the rows of a cancel: requester, reason, times, cleanup, content kept, calls abandoned.

    Parameters:
        counts: the content kept, if known.
        read_at: when a reader received the terminal event, if known; seconds since the epoch.
        more: rows to insert before the abandoned calls.
    """
    rows: list[Row] = []
    if record is not None:
        who = format_requester(record.source, record.by)
        rows.append(("who", who, "bold"))
        if record.reason and record.reason not in (who, _REQUESTERS[record.source]):
            rows.append(("why", one_line(record.reason), ""))
        rows += _time_rows(record, read_at)
        for hook in record.cleanup:
            text = f"{one_line(hook.name)}: {hook.status}" + (f" ({one_line(hook.error)})" if hook.error else "")
            rows.append((hook.kind, text, "" if hook.status == "done" else "red"))
    if counts is not None:
        rows.append(("kept", format_counts(counts), "green"))
    rows += more
    if record is None or record.settled_at is not None:
        rows += _abandoned_rows(record.abandoned if record is not None else [])
    return rows


def _time_rows(record: CancelRecord, read_at: float | None) -> list[Row]:
    """Return a row for each known time, in milliseconds after the request."""
    other = record.connections_closed - record.upstream_closed
    closed = f", {count(record.upstream_closed, 'connection')} to the model closed" if record.upstream_closed else ""
    closed += f", {count(other, 'connection')} of tools closed" if other > 0 else ""
    times = (
        ("decided", record.delivered_at, f"the outcome was fixed{closed}"),
        ("settled", record.settled_at, "all work had ended"),
        ("read", read_at, "the end was stored, and its event was read"),
    )
    rows: list[Row] = []
    for label, at, text in times:
        if at is not None and record.requested_at is not None:
            after = milliseconds(max(0.0, at - record.requested_at))
            rows.append((label, Text.assemble((f"{after:>7}", "bold cyan"), "  ", text), ""))
    return rows


def _abandoned_rows(abandoned: Sequence[Abandoned]) -> list[Row]:
    if not abandoned:
        return [("abandoned", "nothing", "")]
    end = "could not be stopped; its result is dropped"
    return [
        ("abandoned", f"{item.kind} {one_line(item.name)!r}{_details(item)} {end}", "bold red") for item in abandoned
    ]


def _details(item: Abandoned) -> str:
    """Return whose work it is and what it waits for, as far as that is known."""
    whose = f" of {one_line(item.call)!r}" if item.call else ""
    return whose + (f" ({one_line(item.waits_for)})" if item.waits_for else "")


def format_requester(source: Source, by: str | None) -> str:
    """Return the display name of the requester of a cancel."""
    label = _REQUESTERS[source]
    named = by if by and by != "desist" else None
    if named is None:
        return label
    return one_line(named) if source is Source.user else f"{one_line(named)} ({label})"


def end_panel(title: str, rows: Sequence[Row], style: str, encoding: str = "utf-8") -> RenderableType:
    """Return a panel of rows that adapts to the width of the console."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value, row_style in rows:
        grid.add_row(label, value if isinstance(value, Text) else Text(clean(value, encoding), style=row_style))
    return Panel(grid, title=Text(title, style=f"bold {style}"), title_align="left", border_style=style, box=ROUNDED)
