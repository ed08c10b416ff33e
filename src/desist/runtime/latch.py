"""A one-way event that threads and event loops can wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

__all__ = ["Latch"]


class Latch:
    """A fact that becomes true once, waited for by threads and loops alike."""

    __slots__ = ("_callbacks", "_lock", "_set")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self._callbacks: list[Callable[[], None]] = []

    @property
    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._set

    def set(self) -> None:
        """It has happened; wake everybody."""
        with self._lock:
            if self._set:
                return
            self._set = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def add_done_callback(self, callback: Callable[[], None]) -> None:
        """Call `callback()` when it happens, at once if it has. It must not raise or block."""
        with self._lock:
            if not self._set:
                self._callbacks.append(callback)
                return
        callback()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait in this thread for at most `timeout` seconds; return whether it has happened."""
        if self._set:
            return True
        bell = threading.Event()
        self.add_done_callback(bell.set)
        return bell.wait(timeout)

    async def wait_async(self) -> None:
        """Wait on this loop."""
        if self._set:
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        home = threading.get_ident()

        def answer() -> None:
            if not future.done():
                future.set_result(None)

        def wake() -> None:
            if threading.get_ident() == home and not loop.is_closed():
                answer()
                return
            try:
                loop.call_soon_threadsafe(answer)
            except RuntimeError:  # the loop is closed
                pass

        self.add_done_callback(wake)
        await future
