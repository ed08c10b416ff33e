"""The events of a run that its end, or its pause, has to store."""

from __future__ import annotations

from desist.db.events.rows import rows_of
from desist.db.tables.base import EventRow
from desist.run.storage.values import StoredRun

__all__ = ["pending_events"]


def pending_events(run: StoredRun, epoch: int) -> list[EventRow]:
    """Return the events that are not stored yet, the last one at the end. A repeated call returns the same rows."""
    if run.event_buffer is None:
        return []
    if run.event_buffer.written is None:
        run.event_buffer.written = rows_of(run.run_id, run.event_buffer.take_all(), epoch)
    rows: list[EventRow] = run.event_buffer.written
    return rows
