"""What is stored of a run's stream, some of it at a time, for one who follows the run from any process.

Pure but for the rows it asks for. Who reads when is known to `stored_follower`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from desist.cancel.status import RunStatus
from desist.db.events.rows import decoded, event_of, terminal_event
from desist.db.records.rows import with_children
from desist.db.tables.base import EventRow, RunRow
from desist.db.tables.sql import SqlTables

__all__ = ["Page", "events_from_output", "is_cancelled", "read_page", "stream_run_id"]

#: Rows of events that are read at a time.
ROWS = 16


@dataclass(slots=True)
class Page:
    """Some events, and whether there are more."""

    events: list[Any] = field(default_factory=list)
    last: int = -1  #: the number up to which it was read
    more: bool = False  #: there are more right now
    over: bool = False  #: the last event is among them, or was read before


def stream_run_id(tables: SqlTables, run_id: str) -> RunRow | None:
    """Return the run, without its output, in whose stream a run tells; None if there is no such run.

    A step's run tells in that of its workflow. Once it has ended it is its own: its end is told.
    """
    found = tables.runs.headers([run_id])
    row = found[0] if found else None
    while row is not None and row.parent_run_id and not row.is_final and tables.events.last(row.run_id) is None:
        above = tables.runs.headers([row.parent_run_id])
        if not above:
            break
        row = above[0]
    return row


def read_page(tables: SqlTables, row: RunRow, after: int) -> Page:
    """Return what the run of this row has told after an event, as far as it may still be told."""
    rows = tables.events.of_run(row.run_id, after, ROWS)
    told = [one for one in rows if not one.terminal]  # the last event is told at the end, with what the record says
    page = Page(last=told[-1].last_event if told else after, more=len(rows) == ROWS and not rows[-1].terminal)
    pairs = [pair for one in told for pair in decoded(one) if pair[0] > after]
    page.events = _visible_events(tables, row, [event_of(data, number) for number, data in pairs])
    if row.is_final and not page.more:
        page.over = True
        page.events += _end(tables, row, rows, after)
    return page


def _end(tables: SqlTables, row: RunRow, rows: list[EventRow], after: int) -> list[Any]:
    """Return the last event, if it wasn't read before."""
    last = tables.events.last(row.run_id)
    if last is not None and last[1] and last[0] <= after:
        return []
    whole = tables.runs.get(row.run_id)
    if whole is None:
        return []
    output = with_children(tables, whole)
    terminal = next((one for one in rows if one.terminal), None)
    return [terminal_event(output, terminal)] if terminal is not None else events_from_output(output, after)


def events_from_output(output: Any, after: int) -> list[Any]:
    """Return what the record of a run that has ended can tell, where its events aren't stored."""
    events = getattr(output, "events", None) or [terminal_event(output)]
    return [event for event in events if event.event_index is None or event.event_index > after]


def _visible_events(tables: SqlTables, row: RunRow, events: list[Any]) -> list[Any]:
    """Leave out the text of runs that were cancelled: after "stop" nothing more scrolls by, the last event has it."""
    if is_cancelled(row):
        return [event for event in events if not event.is_content]
    speaking = {event.run_id for event in events if event.is_content and event.run_id} - {row.run_id}
    stopped = {run.run_id for run in tables.runs.headers(sorted(speaking)) if is_cancelled(run)} if speaking else set()
    return [event for event in events if not (event.is_content and event.run_id in stopped)]


def is_cancelled(row: RunRow) -> bool:
    """Whether a run was cancelled, or is being."""
    return row.cancel is not None or row.status == RunStatus.cancelled.value
