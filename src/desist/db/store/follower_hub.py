"""`FollowerHub`: finds out for the followers of runs of one store whether there are more events.

The notifier's thread polls once for all followers: when this process is notified, and at intervals, which are long if
notifications arrive. It wakes the followers for which there is something new, and ends runs whose process has died, so
that no follower waits for ever.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from desist.db.backends.base import ChangeDetector, SharedBackend
from desist.db.events.pages import is_cancelled
from desist.db.process.identity import this_process
from desist.db.process.live_runs import LiveRuns
from desist.db.process.notifier import channel
from desist.db.recovery.orphans import end_orphans, is_over, is_resumable, orphan_reason
from desist.db.recovery.run_jobs import log_failure
from desist.db.store.follower_registration import FollowerRegistration
from desist.db.store.stored_cursor import EventSource, StoredCursor
from desist.db.tables.base import RunRow
from desist.db.tables.sql import SqlTables
from desist.db.writer import Writer
from desist.exceptions import StoreError
from desist.run.storage.values import StoredRun
from desist.streams.follower import Follower

__all__ = ["FollowerHub"]

log = logging.getLogger("desist.db")

#: Seconds between two checks whether the processes of followed runs live, and before a failed poll is repeated.
ALIVE = 0.25
#: Seconds between two polls by a process that is notified, where polls read tables: a notification may be lost, and
#: that a process has died is not notified.
NOTIFIED = ALIVE


class FollowerHub:
    """The followers in this process of the runs of one store.

    Parameters:
        backend, writer: the storage, and the writer for the ends of orphans.
        live: the live runs of the store.
        unwritten_end: returns the end of a run that could not be stored yet.
    """

    def __init__(
        self,
        backend: SharedBackend,
        writer: Writer,
        live: LiveRuns,
        unwritten_end: Callable[[str], StoredRun | None],
    ) -> None:
        self._backend, self._writer = backend, writer
        self._source = EventSource(backend, live, unwritten_end)
        self._registration = FollowerRegistration(backend, writer)
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Forget everything: in a forked child the followers are its parent's."""
        self._registration.reset_after_fork()
        self._lock = threading.Lock()
        self._owners: dict[str, str | None] = {}  #: the processes of the followed runs
        self._cursors: list[StoredCursor] = []
        self._changes: ChangeDetector | None = None
        self._due = self._alive_at = 0.0
        self._ending: set[str] = set()
        self._closed = False

    def follow(self, run_id: str, after: int) -> Follower[Any]:
        """Return a stream of the events of a run after the event of that number."""
        cursor = StoredCursor(self._source, run_id, after)
        with self._lock:
            self._cursors.append(cursor)
        channel.register(self)
        self._backend.listen()
        channel.notify_self()
        return Follower(run_id, cursor, self._remove)

    def _remove(self, cursor: StoredCursor) -> None:
        with self._lock:
            if cursor in self._cursors:
                self._cursors.remove(cursor)

    def close(self) -> None:
        """Stop polling: the store is closed. Followers are woken, and get an error."""
        with self._lock:
            self._closed, cursors, self._cursors = True, self._cursors, []
        self._close_detector()
        for cursor in cursors:
            cursor.has_news(cancelled=False)

    # -- polling, in the notifier's thread

    def poll(self, woken: bool) -> float:
        """Wake the followers for which there is news; return when to poll again, in seconds of `time.monotonic`."""
        now = time.monotonic()
        with self._lock:
            self._cursors = [cursor for cursor in self._cursors if not cursor.closed]
            cursors = list(self._cursors)
        if not cursors:
            self._close_detector()
            self._registration.covers({})
            return math.inf
        if not woken and now < self._due:
            return self._due
        try:
            changed, every, cheap = self._changed()
            timely = now >= self._alive_at
            new = any(cursor.polled is None for cursor in cursors)
            if changed or timely or new:
                self._poll_store(cursors, timely)
                self._alive_at = now + ALIVE if timely else self._alive_at
        except StoreError as error:
            log.debug("%s can't be read: %s", self._backend.name, error)
            for cursor in cursors:  # they read, and get the error
                cursor.has_news(cancelled=False)
            self._due = now + ALIVE
            return self._due
        ids = {cursor.stream_id for cursor in cursors} & self._owners.keys()
        elsewhere = {run_id: self._owners[run_id] for run_id in ids if self._source.live.get(run_id) is None}
        notified = self._registration.covers(elsewhere)
        self._due = time.monotonic() + (max(every, NOTIFIED) if notified and not cheap else every)
        return self._due

    def on_stored_here(self) -> None:
        """Poll: this process has stored events or the end of a run. From any thread; does not block."""
        if self._cursors:
            channel.notify_self()

    def _changed(self) -> tuple[bool, float, bool]:
        """Return whether others may have written, the seconds until the next call, and whether that is cheap."""
        with self._lock:  # `_close_detector` must not close the detector meanwhile
            if self._closed:
                raise StoreError(f"{self._backend.name} is closed")
            self._changes = self._changes or self._backend.changes()
            return self._changes.seen(), self._changes.every, self._changes.cheap

    def _close_detector(self) -> None:
        with self._lock:
            changes, self._changes = self._changes, None
            if changes is not None:
                changes.close()

    def _poll_store(self, cursors: list[StoredCursor], timely: bool) -> None:
        ids = sorted({cursor.stream_id for cursor in cursors})
        with self._backend.reading() as tables:
            rows = {row.run_id: row for row in tables.runs.headers(ids)}
            last = tables.events.last_of(ids)
            lost = [row for row in rows.values() if timely and _is_lost(row, tables)]
        self._owners = {run_id: row.process for run_id, row in rows.items() if not row.is_final}
        for cursor in cursors:
            row = rows.get(cursor.stream_id)
            seen = (
                last.get(cursor.stream_id),
                (row.status, row.epoch, row.cancel is not None) if row is not None else None,
                self._source.unwritten_end(cursor.stream_id) is not None,
            )
            if seen != cursor.polled:
                cursor.polled = seen
                cursor.has_news(cancelled=row is not None and is_cancelled(row))
        for row in lost:
            self._end(row)

    def _end(self, row: RunRow) -> None:
        """End a run whose process has died. Its followers learn of that as of any other end."""
        if row.run_id in self._ending:
            return
        self._ending.add(row.run_id)
        done = self._writer.put(lambda tables: end_orphans(tables, row.root_run_id))
        done.add_done_callback(lambda _: self._ending.discard(row.run_id))
        done.add_done_callback(partial(log_failure, self._writer, row.run_id, "ended"))
        done.add_done_callback(lambda _: self.on_stored_here())


def _is_lost(row: RunRow, tables: SqlTables) -> bool:
    """Return whether a run will never end by itself, and is not waiting for its workflow to resume it."""
    if row.is_final:
        return False
    if is_over(row, tables):
        return True
    return not is_resumable(row) and row.process != this_process() and orphan_reason(row, tables) is not None
