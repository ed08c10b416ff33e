"""Ends a run whose terminal event is stored although its record has no end: as that event says.

Versions that stored the two in two transactions have left such runs when their process was killed in between. The event
may have been delivered, so it decides. Called by `orphans` in the writer's thread, with the row of the run locked. What
only the record had (the metrics of a completed run, the state of its session) is lost; finished work and emitted text
are kept.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from desist.cancel.reason import Source
from desist.db.events.rows import decoded, event_of
from desist.db.records.cancel_request import CancelRequestRow
from desist.db.records.codec import encode
from desist.db.recovery.partial_text import events_of_stream
from desist.db.recovery.rebuild import completed, rebuild_cancelled, rebuild_crashed, unreadable
from desist.db.tables.base import EventRow, RunRow
from desist.db.tables.tables import Tables
from desist.exceptions import StoreError
from desist.run.events.base import RunStatus

__all__ = ["settle"]

log = logging.getLogger("desist.db")


def settle(tables: Tables, row: RunRow, terminal: EventRow) -> Any:
    """Store the end of a run as its terminal event says; return the output. No event is emitted again."""
    event = _read(terminal)
    try:
        output = _ended(tables, row, event)
        row.output = encode(output)
    except StoreError as error:
        log.error("run %s ends without its output: %s", row.run_id, error, extra={"run_id": row.run_id})
        output = unreadable(row, None, str(error))
        output.status = event.status if event is not None else output.status
    row.status = output.status.value
    row.updated_at = getattr(event, "event_at", None) or time.time()
    row.epoch += 1  # refuses the writes of a process that resumed the run after its end
    if output.status is not RunStatus.cancelled:
        row.cancel = None  # the cancel came too late
    tables.runs.put(row)
    tables.events.move_terminal_last(row.run_id)  # a run that was resumed has emitted more events since
    log.warning("run %s has a terminal event, and its end was not stored: it is %s now", row.run_id, row.status)
    return output


def _read(terminal: EventRow) -> Any:
    """Return the event, or None if it can't be decoded, which `decoded` has logged."""
    _, data = next(iter(decoded(terminal)), (0, None))
    event = event_of(data, terminal.first_event) if data is not None else None
    return event if getattr(event, "is_terminal", False) else None


def _ended(tables: Tables, row: RunRow, event: Any) -> Any:
    parts, events = tables.parts.of_run(row.run_id), events_of_stream(tables, row)
    if event is None:
        return rebuild_crashed(row, parts, events, "the terminal event of this run can't be decoded")
    if event.status is RunStatus.cancelled:
        return rebuild_cancelled(row, parts, row.cancel or _request_of(event), events)
    if event.status is RunStatus.completed:
        return completed(row, parts, events)
    return rebuild_crashed(
        row, parts, events, getattr(event, "error", None) or event.content or f"the run failed: {event.error_type}"
    )


def _request_of(event: Any) -> str:
    """Return a cancel request made from the terminal event, for a cancel that was not stored."""
    return CancelRequestRow(source=Source.user, text=event.reason, requested_at=event.event_at or 0.0).text_of()
