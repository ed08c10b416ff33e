"""Follows runs through the store: `StoredCursor` reads events, `FollowerHub` finds out whether there are more.

A follower reads in its own thread, or in a helper thread beside its loop. The notifier's thread polls at intervals,
once for all followers of runs of one store, and wakes those for which there is something new. It also ends runs whose
process has died, so that no follower waits for ever.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from desist.db.backends.base import ChangeDetector, SharedBackend
from desist.db.events.pages import Page, events_from_output, is_cancelled, read_page, stream_header
from desist.db.process.identity import this_process
from desist.db.process.live_runs import LiveRuns
from desist.db.process.notifier import channel
from desist.db.recovery.orphans import end_orphans, is_over, is_resumable, orphan_reason
from desist.db.recovery.run_jobs import log_failure
from desist.db.tables.base import RunRow
from desist.db.tables.sql import SqlTables
from desist.db.writer import Writer
from desist.exceptions import ConfigurationError, StoreError
from desist.run.storage.values import StoredRun
from desist.runtime.daemon_thread import to_daemon_thread
from desist.streams.channel import ChannelClosed
from desist.streams.follower import Cursor, Follower

__all__ = ["FollowerHub", "StoredCursor"]

log = logging.getLogger("desist.db")

#: Seconds between two checks whether the processes of followed runs live, and before a failed poll is repeated.
ALIVE = 0.25


@dataclass(frozen=True, slots=True)
class EventSource:
    """Where a cursor reads."""

    backend: SharedBackend
    live: LiveRuns
    unwritten_end: Callable[[str], StoredRun | None]  #: returns the end of a run that could not be stored yet


class StoredCursor(Cursor[Any]):
    """The position of a follower in the stored events of a run.

    The lock guards the position and the items. It is not held while the store is read.

    Parameters:
        run_id: the followed run.
        after: the number of the last event that was received.
    """

    __slots__ = ("_fresh", "_known", "_last", "_over", "_run_id", "_source", "polled", "stream_id")

    def __init__(self, source: EventSource, run_id: str, after: int) -> None:
        super().__init__(threading.Lock())
        self._source, self._run_id, self._last = source, run_id, after
        self._fresh = True  #: whether there may be something to read
        self._over = self._known = False
        self.stream_id = run_id  #: the run whose stream has the events
        self.polled: tuple[Any, ...] | None = None  #: what the last poll saw; only for the hub

    @property
    def closed(self) -> bool:
        """Whether there is nothing more to poll for."""
        return self._over or self._ended

    @property
    def at_end(self) -> bool:
        """Whether all events were read, the last one too."""
        with self._lock:
            return self._over and not self._items

    def _take(self) -> Any | None:
        if self._items:
            return self._items.popleft()
        if self._over or self._ended:
            raise ChannelClosed
        return None

    # -- reading

    def read(self) -> None:
        """Read what is stored, in this thread.

        Raises:
            ConfigurationError: there is no such run.
            StoreError: the store can't be read.
        """
        with self._lock:
            self._fresh = False
        try:
            page = self._page()
        except BaseException as error:
            self._failed(error)
            raise
        self._add_page(page)

    def _page(self) -> Page:
        source = self._source
        ended = source.unwritten_end(self.stream_id)
        if ended is not None:  # in this process; the end is not stored yet
            return Page(events_from_output(ended.output, self._last), self._last, over=True)
        with source.backend.reading() as tables:
            row = stream_header(tables, self._run_id if not self._known else self.stream_id)
            if row is not None:
                self.stream_id, self._known = row.run_id, True
                return read_page(tables, row, self._last)
        if source.live.get(self._run_id) is not None:  # its start is not stored yet
            return Page(last=self._last)
        if self._known:
            raise ConfigurationError(f"run {self._run_id!r} was deleted while it was followed")
        raise ConfigurationError(f"there is no run {self._run_id!r} in {source.backend.name}")

    def _add_page(self, page: Page) -> None:
        with self._lock:
            self._last = max(self._last, page.last)
            self._over = self._over or page.over
            self._fresh = self._fresh or page.more
            for event in page.events:
                self._add(event)

    def _failed(self, error: BaseException) -> None:
        """Nothing was taken: it can be tried again, unless there is no such run."""
        with self._lock:
            self._fresh = True
            self._ended = self._ended or isinstance(error, ConfigurationError)

    def has_news(self, *, cancelled: bool) -> None:
        """Wake the follower: there may be something to read. In the notifier's thread."""
        with self._lock:
            if cancelled:  # discard the text that was not delivered
                kept = [event for event in self._items if not event.is_content]
                self._items.clear()
                self._items.extend(kept)
            self._fresh = True
            self.notify()

    def get(self) -> Any:
        """Return the next event; wait for it in this thread.

        Raises:
            ChannelClosed: the stream has ended.
            ConfigurationError: there is no such run.
            StoreError: the store can't be read.
        """
        while True:
            with self._lock:
                item = self._take()
                if item is not None:
                    return item
                fresh = self._fresh
                self._waiting = not fresh
            if fresh:
                self.read()
            else:
                self._wakeup.acquire()

    async def aget(self) -> Any:
        """Do the same on this loop."""
        while True:
            with self._lock:
                item = self._take()
                if item is not None:
                    return item
                future = None if self._fresh else self._await_wakeup()
            if future is not None:
                await future
                continue
            with self._lock:
                self._fresh = False
            try:
                page = await to_daemon_thread(self._page, "desist-db-follow")
            except BaseException as error:  # a cancel, too
                self._failed(error)
                raise
            self._add_page(page)


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
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Forget everything: in a forked child the followers are its parent's."""
        self._lock = threading.Lock()
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
            return math.inf
        if not woken and now < self._due:
            return self._due
        try:
            changed, every = self._changed()
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
        self._due = time.monotonic() + every
        return self._due

    def _changed(self) -> tuple[bool, float]:
        """Return whether others may have written, and the seconds until the next call."""
        with self._lock:  # `_close_detector` must not close the detector meanwhile
            if self._closed:
                raise StoreError(f"{self._backend.name} is closed")
            self._changes = self._changes or self._backend.changes()
            return self._changes.seen(), self._changes.every

    def _close_detector(self) -> None:
        with self._lock:
            changes, self._changes = self._changes, None
            if changes is not None:
                changes.close()

    def _poll_store(self, cursors: list[StoredCursor], timely: bool) -> None:
        ids = sorted({cursor.stream_id for cursor in cursors})
        with self._backend.reading() as tables:
            rows = {row.run_id: row for row in tables.runs.headers(ids)}
            last = {run_id: tables.events.last(run_id) for run_id in ids}
            lost = [row for row in rows.values() if timely and _is_lost(row, tables)]
        for cursor in cursors:
            row = rows.get(cursor.stream_id)
            seen = (
                last[cursor.stream_id],
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


def _is_lost(row: RunRow, tables: SqlTables) -> bool:
    """Return whether a run will never end by itself, and is not waiting for its workflow to resume it."""
    if row.is_final:
        return False
    if is_over(row, tables):
        return True
    return not is_resumable(row) and row.process != this_process() and orphan_reason(row, tables) is not None
