"""`EventFlusher`: stores the events of this process every 40 ms, as one job of the writer.

Runs call `events_added` with the lock of their tree held, so it only appends, under a lock held for moments. The
timer thread calls `_give_to_writer`, the writer `_rows`. The last events of a run don't come this way: the transaction
that stores its end stores them, see `transactions`.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from desist.db.events.rows import rows_of
from desist.run.storage.event_buffer import EventBuffer
from desist.runtime.fork_hooks import register_at_fork
from desist.runtime.timer_thread import timers

if TYPE_CHECKING:
    from desist.db.tables.base import EventRow
    from desist.db.tables.sql import SqlTables
    from desist.db.writer import Writer

__all__ = ["EventFlusher"]

#: Seconds for which events wait for others to share the transaction.
FLUSH_INTERVAL = 0.04


class EventFlusher:
    """The events that the runs of one store have emitted and that are not in the writer yet.

    Parameters:
        epoch_of: returns the epoch in which this process may write about a run.
        on_fenced: called in the writer when a row was refused: another process may own the run. Must not block.
    """

    def __init__(self, writer: Writer, epoch_of: Callable[[str], int | None], on_fenced: Callable[[], None]) -> None:
        self._writer, self._epoch_of, self._on_fenced = writer, epoch_of, on_fenced
        self.reset_after_fork()
        _all.add(self)

    def reset_after_fork(self) -> None:
        """Forget everything: in a forked child the runs are the parent's."""
        self._lock = threading.Lock()
        self._due: list[EventBuffer] = []

    def events_added(self, buffer: EventBuffer) -> None:
        """Store the events of a run soon. From any thread; the first call of a batch starts the timer."""
        with self._lock:
            self._due.append(buffer)
            first = len(self._due) == 1
        if first:
            timers.call_at(time.monotonic() + FLUSH_INTERVAL, self._give_to_writer)

    def flush(self) -> None:
        """Give the gathered events to the writer now."""
        with self._lock:
            waiting = bool(self._due)
        if waiting:
            self._give_to_writer()

    def _give_to_writer(self) -> None:
        with self._lock:
            due, self._due = self._due, []
        if not due:  # another thread has flushed
            return
        rows: list[EventRow] = []

        def write(tables: SqlTables) -> None:
            rows.extend(self._rows(due))  # a repeated transaction finds `due` empty, and writes the same rows
            if not tables.events.add(rows):
                self._on_fenced()

        if not self._writer.put_droppable(write):  # the queue is full
            with self._lock:
                waiting, self._due = self._due, [*due, *self._due]
            if not waiting and not self._writer.closing:
                timers.call_at(time.monotonic() + FLUSH_INTERVAL, self._give_to_writer)

    def _rows(self, due: list[EventBuffer]) -> list[EventRow]:
        rows: list[EventRow] = []
        while due:
            buffer = due.pop()
            epoch = self._epoch_of(buffer.run_id)
            events = buffer.take()
            if epoch is not None:  # else its start is not stored, or another process owns the run
                rows += rows_of(buffer.run_id, events, epoch)
        return rows


_all: weakref.WeakSet[EventFlusher] = weakref.WeakSet()


def _reset_after_fork() -> None:
    for flusher in list(_all):
        flusher.reset_after_fork()


register_at_fork(after_in_child=_reset_after_fork)
