"""A one-way event that threads and event loops can wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from desist.runtime.lock_wait import acquire

__all__ = ["Latch"]


class Latch:
    """A one-way event for threads and event loops.

    The lock protects the list of callbacks and is not held while they are called, so a callback may use the latch. A
    callback is called once: by `set`, or by `add_done_callback` if the latch was set before.
    """

    __slots__ = ("_callbacks", "_lock", "_set")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self._callbacks: list[Callable[[], None]] = []

    @property
    def is_set(self) -> bool:
        """Whether the latch was set. Needs no lock: it never becomes false again."""
        return self._set

    def set(self) -> None:
        """Set the latch and call the callbacks, in the order in which they were added. From any thread.

        A second call returns at once, perhaps before the first has called all callbacks.
        """
        with self._lock:
            if self._set:
                return
            self._set = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def add_done_callback(self, callback: Callable[[], None]) -> None:
        """Call `callback()` in the thread that sets the latch, or here if it is set. It must not raise or block."""
        with self._lock:
            if not self._set:
                self._callbacks.append(callback)
                return
        callback()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait in this thread for at most `timeout` seconds; return whether the latch was set."""
        if self._set:
            return True
        # A bare lock and no `Event`: an exception from outside could leave the event's own lock held, and `set` would
        # wait for that for ever.
        unset = threading.Lock()
        unset.acquire()
        self.add_done_callback(unset.release)
        return acquire(unset, timeout)

    async def wait_async(self) -> None:
        """Wait on this loop until the latch is set."""
        if self._set:
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        loop_thread = threading.get_ident()

        def resolve() -> None:
            if not future.done():  # the waiting task may have been cancelled
                future.set_result(None)

        def wake() -> None:
            if threading.get_ident() == loop_thread and not loop.is_closed():
                resolve()  # a future may be resolved directly on the thread of its loop only
                return
            try:
                loop.call_soon_threadsafe(resolve)
            except RuntimeError:  # the loop is closed: no task waits
                pass

        self.add_done_callback(wake)
        await future
