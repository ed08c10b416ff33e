"""Reads the stored events of a run page by page, for followers in any process. `stored_cursor` decides when."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from desist.cancel.status import RunStatus
from desist.db.events.rows import decoded, event_of, terminal_event
from desist.db.records.rows import with_children
from desist.db.tables.base import EventRow, RunRow
from desist.db.tables.sql import SqlTables

__all__ = ["Page", "events_from_output", "is_cancelled", "read_page", "stream_header"]

#: The maximum of rows in one page.
ROWS = 16


@dataclass(slots=True)
class Page:
    """Some events, and whether there are more."""

    events: list[Any] = field(default_factory=list)
    last: int = -1  #: the number of the last event that was read
    more: bool = False  #: whether more events are stored now
    over: bool = False  #: whether the stream has ended: its last event is here, or was read before


def stream_header(tables: SqlTables, run_id: str) -> RunRow | None:
    """Return the header of the run whose stream has the events of a run; None if there is no such run.

    The run of a step emits into the stream of its workflow. Once it has ended, it counts as a stream of its own, with
    its last event.
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
    """Return the events of a run after an event, without those that a cancel has discarded."""
    rows = tables.events.of_run(row.run_id, after, ROWS)
    some = [one for one in rows if not one.terminal]  # the last event comes at the end, completed from the record
    page = Page(last=some[-1].last_event if some else after, more=len(rows) == ROWS and not rows[-1].terminal)
    pairs = [pair for one in some for pair in decoded(one) if pair[0] > after]
    page.events = _visible_events(tables, row, [event_of(data, number) for number, data in pairs])
    if row.is_final and not page.more:
        page.over = True
        page.events += _end(tables, row, rows, after)
    return page


def _end(tables: SqlTables, row: RunRow, rows: list[EventRow], after: int) -> list[Any]:
    """Return the last event, unless it was read before."""
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
    """Return the events that can be made from the record of an ended run whose events are not stored."""
    events = getattr(output, "events", None) or [terminal_event(output)]
    return [event for event in events if event.event_index is None or event.event_index > after]


def _visible_events(tables: SqlTables, row: RunRow, events: list[Any]) -> list[Any]:
    """Leave out the text of cancelled runs: after a cancel no more text is shown; the last event has all of it."""
    if is_cancelled(row):
        return [event for event in events if not event.is_content]
    speaking = {event.run_id for event in events if event.is_content and event.run_id} - {row.run_id}
    stopped = {run.run_id for run in tables.runs.headers(sorted(speaking)) if is_cancelled(run)} if speaking else set()
    return [event for event in events if not (event.is_content and event.run_id in stopped)]


def is_cancelled(row: RunRow) -> bool:
    """Return whether a run is cancelled or being cancelled."""
    return row.cancel is not None or row.status == RunStatus.cancelled.value
