"""A run whose terminal event is stored although its record has no end: the record gets its end from the event.

Versions that stored the two in two transactions have left such runs when their process was killed in between. The
stored terminal event was told, or may have been: it is the truth, whatever else would become of the run. Called by
`orphans`, in the store's writer, with the run's record locked. What of the output stood in the record alone (the
metrics of a completed run, the state of its session) is lost; what had finished and what was said is kept.
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
from desist.db.tables.base import EventRow, RunRow, Tables
from desist.exceptions import StoreError
from desist.run.events.base import RunStatus

__all__ = ["settle"]

log = logging.getLogger("desist.db")


def settle(tables: Tables, row: RunRow, terminal: EventRow) -> Any:
    """Write the end of a run as its terminal event tells it; return its output. Nothing is told a second time."""
    event = _read(terminal)
    try:
        output = _ended(tables, row, event)
        row.output = encode(output)
    except StoreError as error:
        log.error("run %s is ended as it is: %s", row.run_id, error, extra={"run_id": row.run_id})
        output = unreadable(row, None, str(error))
        output.status = event.status if event is not None else output.status
    row.status = output.status.value
    row.updated_at = getattr(event, "event_at", None) or time.time()
    row.epoch += 1  # whoever went on with it after its end may not write
    if output.status is not RunStatus.cancelled:
        row.cancel = None  # it came too late
    tables.runs.put(row)
    tables.events.move_terminal_last(row.run_id)  # one that was resumed has told more since
    log.warning("run %s had told its end, and that wasn't recorded: it is %s", row.run_id, row.status)
    return output


def _read(terminal: EventRow) -> Any:
    """Return the event, or None if it can't be read, which is said by whoever decodes it."""
    _, data = next(iter(decoded(terminal)), (0, None))
    event = event_of(data, terminal.first_event) if data is not None else None
    return event if getattr(event, "is_terminal", False) else None


def _ended(tables: Tables, row: RunRow, event: Any) -> Any:
    parts, told = tables.parts.of_run(row.run_id), events_of_stream(tables, row)
    if event is None:
        return rebuild_crashed(row, parts, told, "the event that told the end of this run can't be read")
    if event.status is RunStatus.cancelled:
        return rebuild_cancelled(row, parts, row.cancel or _note_of(event), told)
    if event.status is RunStatus.completed:
        return completed(row, parts, told)
    return rebuild_crashed(
        row, parts, told, getattr(event, "error", None) or event.content or f"it failed: {event.error_type}"
    )


def _note_of(event: Any) -> str:
    """Return what is known of a cancel that was told and isn't recorded."""
    return CancelRequestRow(source=Source.user, text=event.reason, requested_at=event.event_at or 0.0).text_of()
