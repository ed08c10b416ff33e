"""Following a run through the store: its place among what is stored, and who looks whether there is more.

A follower reads by itself, in its own thread or beside its loop. The channel's thread looks now and then, on behalf of
all that follow runs of one store, and rings those for whom there is something new. It gives an end to a run whose
process has died, so that nobody waits for ever.
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
from desist.db.events.pages import Page, events_from_output, is_cancelled, read_page, stream_run_id
from desist.db.process.identity import this_process
from desist.db.process.live_runs import LiveRuns
from desist.db.process.notifier import channel
from desist.db.recovery.orphans import end_orphans, is_over, is_resumable, orphan_reason
from desist.db.recovery.run_jobs import say_failed
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

#: Seconds between two looks whether the processes of followed runs live, and after which a look that failed is tried
#: again.
ALIVE = 0.25


@dataclass(frozen=True, slots=True)
class EventSource:
    """Where a follower reads."""

    backend: SharedBackend
    live: LiveRuns
    unwritten_end: Callable[[str], StoredRun | None]  #: the end of a run that could not be written yet


class StoredCursor(Cursor[Any]):
    """A follower's position in the stored events of a run.

    Its lock guards the position and the items, and is never held while the store is read.

    Parameters:
        source: where to read.
        run_id: of which run.
        after: the number of the last event that was seen.
    """

    __slots__ = ("_fresh", "_known", "_last", "_over", "_run_id", "_source", "looked", "stream_id")

    def __init__(self, source: EventSource, run_id: str, after: int) -> None:
        super().__init__(threading.Lock())
        self._source, self._run_id, self._last = source, run_id, after
        self._fresh = True  #: there may be something to read
        self._over = self._known = False
        self.stream_id = run_id  #: of the run in whose stream it tells
        self.looked: tuple[Any, ...] | None = None  #: what was seen at the last look, for whoever looks

    @property
    def closed(self) -> bool:
        """Whether there is nothing more to look for."""
        return self._over or self._ended

    @property
    def at_end(self) -> bool:
        """Whether everything was read, the last event too."""
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
        """Read what there is, in this thread.

        Raises:
            ConfigurationError: there is no such run.
            StoreError: it can't be read.
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
        owed = source.unwritten_end(self.stream_id)
        if owed is not None:  # it has ended here, and the database didn't take that yet
            return Page(events_from_output(owed.output, self._last), self._last, over=True)
        with source.backend.reading() as tables:
            row = stream_run_id(tables, self._run_id if not self._known else self.stream_id)
            if row is not None:
                self.stream_id, self._known = row.run_id, True
                return read_page(tables, row, self._last)
        if source.live.get(self._run_id) is not None:  # its start is on its way to the disk
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
        """There may be something to read. From the thread that looks."""
        with self._lock:
            if cancelled:  # what it was about to be told is dropped
                kept = [event for event in self._items if not event.is_content]
                self._items.clear()
                self._items.extend(kept)
            self._fresh = True
            self.notify()

    def get(self) -> Any:
        """Return the next event, waiting for it in this thread.

        Raises:
            Closed: the stream is over.
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
        backend, writer: where the events are, and what writes the ends of orphans.
        live: the store's live runs.
        unwritten_end: returns the end of a run that could not be written yet.
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
        """Forget everything: in a forked child they are the parent's."""
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
        """Look no more: the store is closed. Whoever still reads is told."""
        with self._lock:
            self._closed, cursors, self._cursors = True, self._cursors, []
        self._next_poll()
        for cursor in cursors:
            cursor.has_news(cancelled=False)

    # -- looking, in the channel's thread

    def poll(self, woken: bool) -> float:
        """Ring those for whom there is news; return when to look again, in seconds of `time.monotonic`."""
        now = time.monotonic()
        with self._lock:
            self._cursors = [cursor for cursor in self._cursors if not cursor.closed]
            cursors = list(self._cursors)
        if not cursors:
            self._next_poll()
            return math.inf
        if not woken and now < self._due:
            return self._due
        try:
            changed, every = self._changed()
            timely = now >= self._alive_at
            new = any(cursor.looked is None for cursor in cursors)
            if changed or timely or new:
                self._poll_store(cursors, timely)
                self._alive_at = now + ALIVE if timely else self._alive_at
        except StoreError as error:
            log.debug("%s can't be looked at: %s", self._backend.name, error)
            for cursor in cursors:  # whoever reads hears what is wrong
                cursor.has_news(cancelled=False)
            self._due = now + ALIVE
            return self._due
        self._due = time.monotonic() + every
        return self._due

    def _changed(self) -> tuple[bool, float]:
        """Return whether others may have written, and after how many seconds to ask again."""
        with self._lock:  # nobody closes it while it is asked
            if self._closed:
                raise StoreError(f"{self._backend.name} is closed")
            self._changes = self._changes or self._backend.changes()
            return self._changes.seen(), self._changes.every

    def _next_poll(self) -> None:
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
            if seen != cursor.looked:
                cursor.looked = seen
                cursor.has_news(cancelled=row is not None and is_cancelled(row))
        for row in lost:
            self._end(row)

    def _end(self, row: RunRow) -> None:
        """Give a run an end whose process has died. Whoever follows it hears of that as of any other end."""
        if row.run_id in self._ending:
            return
        self._ending.add(row.run_id)
        done = self._writer.put(lambda tables: end_orphans(tables, row.root_run_id))
        done.add_done_callback(lambda _: self._ending.discard(row.run_id))
        done.add_done_callback(partial(say_failed, self._writer, row.run_id, "ended"))


def _is_lost(row: RunRow, tables: SqlTables) -> bool:
    """Whether a run will never end by itself, and waits for nobody who would go on with it."""
    if row.is_final:
        return False
    if is_over(row, tables):
        return True
    return not is_resumable(row) and row.process != this_process() and orphan_reason(row, tables) is not None
