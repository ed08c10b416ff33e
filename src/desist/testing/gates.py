"""`Gate`: code under test waits at a gate until the test opens it; the test can wait until the gate was reached.

A gate replaces sleeps in scripted models, tools and steps, in threads and on event loops. Blocking waits use the cancel
token, so a cancel interrupts a sync tool that waits at a gate at once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from desist.cancel.context import current_call
from desist.cancel.token import current_token

__all__ = ["Gate"]


class Gate:
    """A barrier that is shut until `open()` and then stays open. All methods are thread-safe."""

    def __init__(self, name: str = "gate") -> None:
        self.name = name
        self._changed = threading.Condition()
        self._wakers: list[Callable[[], object]] = []
        self._open = False
        self._reached = 0

    def __deepcopy__(self, memo: dict[int, object]) -> Gate:
        """Return the gate itself: a copy of a script waits at the same gates."""
        return self

    @property
    def is_open(self) -> bool:
        """Whether the gate is open: waiting returns at once."""
        return self._open

    @property
    def reached(self) -> int:
        """How many times code has reached the gate, whether it had to wait or not."""
        return self._reached

    def open(self) -> None:
        """Open the gate: release all waiters, present and future."""
        with self._changed:
            self._open = True
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    def wait_reached(self, times: int = 1, timeout: float = 10.0) -> None:
        """Block this thread until the gate has been reached `times` times.

        On an event loop, call it through `asyncio.to_thread`.

        Raises:
            TimeoutError: after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._reached < times:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"{self!r} was not reached {times} times within {timeout} s")
                self._changed.wait(left)

    async def wait(self) -> None:
        """Wait on the running loop until the gate opens. The wait can be cancelled like any await."""
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()

        def settle() -> None:
            if not opened.done():
                opened.set_result(None)

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(settle)
            except RuntimeError:  # the loop is closed: it has no waiter any more
                pass

        if self._arrive(wake):
            return
        try:
            await opened
        finally:
            self._remove_waiter(wake)

    def wait_blocking(self, timeout: float | None = None) -> None:
        """Block this thread until the gate opens. For sync tools and steps; not on an event loop.

        Raises:
            RunCancelled: at once when the run of this code is cancelled.
            TimeoutError: after `timeout` seconds.
            RuntimeError: if called on an event loop.
        """
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(f"{self!r}: wait_blocking() would block this event loop: await gate.wait() instead")
        token, opened = current_token(), threading.Event()
        if self._arrive(opened.set):
            token.check()
            return
        remove_callback = token.on_cancel(opened.set)
        call = current_call.call
        if call is not None:
            call.in_token_wait = True  # the token wakes this thread: no exception has to be raised in it
        try:
            if not opened.wait(timeout):
                raise TimeoutError(f"{self!r} was not opened within {timeout} s")
            token.check()
        finally:
            if call is not None:
                call.in_token_wait = token.cancelled
            remove_callback()
            self._remove_waiter(opened.set)

    def _arrive(self, wake: Callable[[], object]) -> bool:
        """Count an arrival. Return True if the gate is open; otherwise register `wake`, to be called by `open()`."""
        with self._changed:
            self._reached += 1
            if not self._open:
                self._wakers.append(wake)
            self._changed.notify_all()
            return self._open

    def _remove_waiter(self, wake: Callable[[], object]) -> None:
        with self._changed:
            if wake in self._wakers:
                self._wakers.remove(wake)

    def __repr__(self) -> str:
        return f"<Gate {self.name!r} {'open' if self._open else 'shut'}, reached {self._reached} times>"
