"""Follow the events of a run that other code has started; leaving doesn't cancel the run.

The events are in memory (`replay_channel`), or in a store that other processes write.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from desist.cancel.reason import Source
from desist.cancel.receipt import CancelReceipt
from desist.cancel.scope import Outcome
from desist.runtime.latch import Latch
from desist.runtime.timer_thread import timers
from desist.streams.channel import ChannelClosed, EventChannel

__all__ = ["Cursor", "Follower"]

T = TypeVar("T")


class Cursor(EventChannel[T]):
    """A position in the events of a run, which one follower reads. Where the events are is up to the subclass."""

    __slots__ = ("__weakref__", "_ended")

    def __init__(self, lock: threading.Lock) -> None:
        super().__init__(lock)
        self._ended = False

    @property
    def at_end(self) -> bool:
        """Whether all events were read, the terminal event too."""
        raise NotImplementedError

    def end(self) -> None:
        """End the reading: the next `get` raises `ChannelClosed`. From any thread; a second call does nothing."""
        with self._lock:
            self._ended = True

    def notify(self) -> None:
        """Wake the reader if it waits. From any thread, with the lock held."""
        if self._waiting:
            self._wake_reader()

    def read(self) -> None:
        """Load the next events, where they are not in memory."""

    def _take(self) -> T | None:
        """Return the next event, or None if there is none now. With the lock held; raises like `get`."""
        raise NotImplementedError

    async def get_nowait_async(self, most: int) -> list[T]:
        """Return the next events, at most `most`, waiting for the first one only. Raises like `get`."""
        taken = [await self.aget()]
        with self._lock:
            try:
                while len(taken) < most and (item := self._take()) is not None:
                    taken.append(item)
            except ChannelClosed:
                pass  # raised again by the next call
        return taken


class Follower(Generic[T]):
    """A run as its readers see it, for a follower: `stop` leaves the stream and the run goes on.

    Attributes:
        run_id: the id of the run.
        channel, cursor: the position that is read.
        settled: set when the follower has left.
    """

    def __init__(self, run_id: str, cursor: Cursor[T], on_close: Callable[[Any], None]) -> None:
        self.run_id, self.cursor, self._on_close = run_id, cursor, on_close
        self.channel: EventChannel[T] = cursor
        self.settled = Latch()
        # A reader that continued here from a backlog and was garbage collected never calls `stop`. The finalizer may
        # run in any thread with any lock held, so the timer thread removes the cursor. `on_close` may be called twice.
        weakref.finalize(self, timers.call_soon, functools.partial(on_close, cursor)).atexit = False

    def begin(self) -> None:
        """Load the first events now, so that an error of the store is raised here and not while reading.

        Waits for the store and raises its errors.
        """
        try:
            self.cursor.read()
        except BaseException:
            self._on_close(self.cursor)
            raise

    def stop(self, source: Source, text: str | None = None) -> CancelReceipt:
        """Leave the stream; the run goes on. From any thread; a second call does nothing."""
        self._on_close(self.cursor)
        self.settled.set()
        return CancelReceipt(Outcome.unknown, self.run_id, lambda: None)
