"""Storing what runs tell: now and then, all that has gathered in this process, in one transaction.

Called by runs, with the lock of their tree held; written by the store's writer. The last events of a run don't come
this way: they are written together with its end (`transactions`).
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import TYPE_CHECKING

from desist.db.events.rows import rows_of
from desist.run.storage.event_buffer import EventBuffer
from desist.runtime.timer_thread import reaper

if TYPE_CHECKING:
    from desist.db.store.shared_table_store import SharedTableStore
    from desist.db.tables.base import EventRow, SharedTables

__all__ = ["EventFlusher"]

#: Seconds that events wait for company.
FLUSH_INTERVAL = 0.04


class EventFlusher:
    """What the runs of one store have told and what isn't on its way yet."""

    def __init__(self, store: SharedTableStore) -> None:
        self._store = store
        self.start_anew()
        _all.add(self)

    def start_anew(self) -> None:
        """Forget everything: in a forked child the runs are the parent's."""
        self._lock = threading.Lock()
        self._due: list[EventBuffer] = []

    def schedule(self, recorder: EventBuffer) -> None:
        """A run has told something. Doesn't wait: another thread holds the lock for an instant only."""
        with self._lock:
            self._due.append(recorder)
            first = len(self._due) == 1
        if first:
            reaper.call_at(time.monotonic() + FLUSH_INTERVAL, self._leave_to_writer)

    def flush(self) -> None:
        """Leave what has gathered to the writer at once."""
        with self._lock:
            waiting = bool(self._due)
        if waiting:
            self._leave_to_writer()

    def _leave_to_writer(self) -> None:
        with self._lock:
            due, self._due = self._due, []
        if not due:  # somebody was quicker
            return
        made: list[EventRow] = []

        def write(tables: SharedTables) -> None:
            made.extend(self._rows(due))  # done anew after a failure, there is nothing more to take
            if not tables.add_events(made):
                self._store.attendant.check_ownership_soon()

        if not self._store.writer.put_droppable(write):  # there is no room now
            with self._lock:
                waiting, self._due = self._due, [*due, *self._due]
            if not waiting and not self._store.writer.closing:
                reaper.call_at(time.monotonic() + FLUSH_INTERVAL, self._leave_to_writer)

    def _rows(self, due: list[EventBuffer]) -> list[EventRow]:
        rows: list[EventRow] = []
        while due:
            recorder = due.pop()
            epoch = self._store.attendant.epoch_of(recorder.run_id)
            told = recorder.take()
            if epoch is not None:  # else its start could not be recorded, or another process has it
                rows += rows_of(recorder.run_id, told, epoch)
        return rows


_all: weakref.WeakSet[EventFlusher] = weakref.WeakSet()


def _reset_after_fork() -> None:
    for telling in list(_all):
        telling.start_anew()


os.register_at_fork(after_in_child=_reset_after_fork)
