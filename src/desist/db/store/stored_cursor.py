"""`StoredCursor`: the position of a follower in the stored events of a run.

A follower reads in its own thread, or in a helper thread beside its loop. `FollowerHub` wakes it when there is more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from desist.db.backends.base import SharedBackend
from desist.db.events.pages import Page, events_from_output, read_page, stream_header
from desist.db.process.live_runs import LiveRuns
from desist.db.process.notifier import channel
from desist.exceptions import ConfigurationError
from desist.run.storage.values import StoredRun
from desist.runtime.daemon_thread import to_daemon_thread
from desist.streams.channel import ChannelClosed
from desist.streams.follower import Cursor

__all__ = ["EventSource", "StoredCursor"]


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
                moved, self.stream_id, self._known = row.run_id != self.stream_id, row.run_id, True
                if moved:
                    channel.notify_self()  # the hub asks to be notified of the other stream
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
