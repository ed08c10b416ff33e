"""Who follows a run that isn't theirs: a place in its events, and leaving without stopping it.

Where the events are is another's business: in memory (`replay_channel`), or in a store that other processes write. Like
`EventChannel` it must not know what an event is.
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
from desist.runtime.timer_thread import reaper
from desist.streams.channel import ChannelClosed, EventChannel

__all__ = ["Cursor", "Follower"]

T = TypeVar("T")


class Cursor(EventChannel[T]):
    """What one follower reads: its place in the events of a run, wherever those are kept."""

    __slots__ = ("__weakref__", "_ended")

    def __init__(self, lock: threading.Lock) -> None:
        super().__init__(lock)
        self._ended = False

    @property
    def at_end(self) -> bool:
        """Whether everything was read, the terminal event too."""
        raise NotImplementedError

    def end(self) -> None:
        """Read no more: whoever asks next is told that it is over."""
        with self._lock:
            self._ended = True

    def notify(self) -> None:
        """Wake whoever waits. With the lock held."""
        if self._waiting:
            self._wake_reader()

    def read(self) -> None:
        """Fetch what there is, if it must be fetched."""

    def _take(self) -> T | None:
        """Return the next event, or None if there is none now. With the lock held; raises as `get` does."""
        raise NotImplementedError

    async def get_nowait_async(self, most: int) -> list[T]:
        """Return the next events, at most so many, waiting for the first one. Raises as `get` does."""
        taken = [await self.aget()]
        with self._lock:
            try:
                while len(taken) < most and (item := self._take()) is not None:
                    taken.append(item)
            except ChannelClosed:
                pass  # told to whoever asks next
        return taken


class Follower(Generic[T]):
    """A run, as one who follows it sees it: leaving doesn't stop it. What readers read.

    Attributes:
        run_id: whose events these are.
        bridge, cursor: where they come from.
        settled: set once the follower has left.
    """

    def __init__(self, run_id: str, cursor: Cursor[T], on_close: Callable[[Any], None]) -> None:
        self.run_id, self.cursor, self._on_close = run_id, cursor, on_close
        self.bridge: EventChannel[T] = cursor
        self.settled = Latch()
        # A reader that went on here, and was dropped, doesn't leave. Any lock may be held then: the reaper does it.
        weakref.finalize(self, reaper.call_soon, functools.partial(on_close, cursor)).atexit = False

    def begin(self) -> None:
        """Look into the store now, if that is where the events are: what is wrong is told here, and not in mid-read.

        Waits for the store, and raises as it does.
        """
        try:
            self.cursor.read()
        except BaseException:
            self._on_close(self.cursor)
            raise

    def stop(self, source: Source, text: str | None = None) -> CancelReceipt:
        """Leave. The run goes on."""
        self._on_close(self.cursor)
        self.settled.set()
        return CancelReceipt(Outcome.unknown, self.run_id, lambda: None)
