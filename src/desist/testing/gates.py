"""`Gate`: a place where work waits until the test lets it go on, and the test learns that it got there.

For scripted models, tools and steps, in threads and on loops alike; instead of sleeps. Stands on the cancel token
only, so that a sync tool which waits here is interrupted at once.
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
    """Shut until `open()`, then open for good. All methods are safe from any thread."""

    def __init__(self, name: str = "gate") -> None:
        self.name = name
        self._changed = threading.Condition()
        self._wakers: list[Callable[[], object]] = []
        self._open = False
        self._reached = 0

    @property
    def is_open(self) -> bool:
        """Whether waiting ends at once."""
        return self._open

    @property
    def reached(self) -> int:
        """How many times something came here, whether it had to wait or not."""
        return self._reached

    def open(self) -> None:
        """Let everything through that waits here, or comes later."""
        with self._changed:
            self._open = True
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    def wait_reached(self, times: int = 1, timeout: float = 10.0) -> None:
        """Block this thread until something came here for the `times`-th time.

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
        """Wait on the running loop until the gate opens. A cancellation ends it, as any await."""
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()

        def settle() -> None:
            if not opened.done():
                opened.set_result(None)

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(settle)
            except RuntimeError:  # that loop is closed: nobody waits there any more
                pass

        if self._arrive(wake):
            return
        try:
            await opened
        finally:
            self._remove_waiter(wake)

    def wait_blocking(self, timeout: float | None = None) -> None:
        """Wait in this thread until the gate opens: for sync tools and steps. Not on an event loop.

        Raises:
            RunCancelled: the run that this code works for was cancelled; at once.
            TimeoutError: after `timeout` seconds.
            RuntimeError: called on an event loop.
        """
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(f"{self!r}: wait_blocking() would block this event loop: await gate.wait() instead")
        token, bell = current_token(), threading.Event()
        if self._arrive(bell.set):
            token.check()
            return
        forget = token.on_cancel(bell.set)
        call = current_call.call
        if call is not None:
            call.in_token_wait = True  # the token wakes it: no exception need be sent into its thread
        try:
            if not bell.wait(timeout):
                raise TimeoutError(f"{self!r} was not opened within {timeout} s")
            token.check()
        finally:
            if call is not None:
                call.in_token_wait = token.cancelled
            forget()
            self._remove_waiter(bell.set)

    def _arrive(self, wake: Callable[[], object]) -> bool:
        """Count an arrival; return True if the gate is open, else keep `wake` for when it opens."""
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
