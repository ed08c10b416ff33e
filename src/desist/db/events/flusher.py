"""`EventFlusher`: stores the events of this process every 40 ms, as one job of the writer.

The events of a run that another process follows are stored at once, but not more often than every few milliseconds.

Runs call `events_added` with the lock of their tree held, so it only appends, under a lock held for moments. The
timer thread calls `_give_to_writer`, the writer `_rows`. The last events of a run don't come this way: the transaction
that stores its end stores them, see `transactions`.
"""

from __future__ import annotations

import math
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
#: The minimum of seconds between two flushes for followers.
GAP = 0.003


class EventFlusher:
    """The events that the runs of one store have emitted and that are not in the writer yet.

    Parameters:
        epoch_of: returns the epoch in which this process may write about a run.
        on_fenced: called in the writer when a row was refused: another process may own the run. Must not block.
        on_stored: called after the commit, with the addresses of the processes that follow one of the runs. Must not
            block.
    """

    def __init__(
        self,
        writer: Writer,
        epoch_of: Callable[[str], int | None],
        on_fenced: Callable[[], None],
        on_stored: Callable[[set[str]], object] = lambda addresses: None,
    ) -> None:
        self._writer, self._epoch_of, self._on_fenced, self._on_stored = writer, epoch_of, on_fenced, on_stored
        self.reset_after_fork()
        _all.add(self)

    def reset_after_fork(self) -> None:
        """Forget everything: in a forked child the runs are the parent's."""
        self._lock = threading.Lock()
        self._due: list[EventBuffer] = []
        self._followed: set[str] = set()  #: runs that had followers when their events were stored
        self._look = False  #: this process was notified: a follower may have come
        self._given_at = 0.0  #: when the writer was given events, in seconds of `time.monotonic`
        self._timer_at = math.inf  #: when the next timer is due

    def events_added(self, buffer: EventBuffer) -> None:
        """Store the events of a run soon. From any thread; the first call of a batch starts the timer."""
        now = time.monotonic()
        with self._lock:
            self._due.append(buffer)
            quick = self._look or buffer.run_id in self._followed
            at = max(now, self._given_at + GAP) if quick else now + FLUSH_INTERVAL
            if at >= self._timer_at:
                return
            self._timer_at = at
        if at <= now:
            self._give_to_writer()
        else:
            timers.call_at(at, self._give_to_writer)

    def on_notified(self) -> None:
        """Store events at once: a process that notifies this one may have begun to follow a run. From any thread."""
        with self._lock:
            self._look = True
        self.flush()

    def forget(self, run_id: str) -> None:
        """Forget the followers of a run that has ended."""
        with self._lock:
            self._followed.discard(run_id)

    def flush(self) -> None:
        """Give the gathered events to the writer now."""
        with self._lock:
            waiting = bool(self._due)
        if waiting:
            self._give_to_writer()

    def _give_to_writer(self) -> None:
        with self._lock:
            due, self._due = self._due, []
            self._timer_at = math.inf
            if not due:  # another thread has flushed
                return
            quick = self._look or any(buffer.run_id in self._followed for buffer in due)
            self._look, self._given_at = False, time.monotonic()
        rows: list[EventRow] = []

        def write(tables: SqlTables) -> list[tuple[str, str]]:
            rows.extend(self._rows(due))  # a repeated transaction finds `due` empty, and writes the same rows
            if not tables.events.add(rows):
                self._on_fenced()
            followers = tables.followers.of_runs(sorted({row.run_id for row in rows})) if rows else []
            for address in sorted({address for _, address in followers}):
                tables.tx.notify(address)
            return followers

        def stored(followers: list[tuple[str, str]]) -> None:
            with self._lock:
                self._followed.difference_update(row.run_id for row in rows)
                self._followed.update(run_id for run_id, _ in followers)
            self._on_stored({address for _, address in followers})

        if not self._writer.put_droppable(write, 0.0 if quick else None, stored):  # the queue is full
            with self._lock:
                self._due[:0] = due
                again = self._timer_at == math.inf and not self._writer.closing
                if again:
                    self._timer_at = time.monotonic() + FLUSH_INTERVAL
            if again:
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
