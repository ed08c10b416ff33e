"""Waking an event loop from other threads, for half of what `call_soon_threadsafe` costs.

A loop's `LoopWaker` is a queue of callbacks and an eventfd that the loop watches: one write and one read of eight bytes
for all callbacks that came meanwhile, where asyncio sends a byte through a socket pair for each. Where the system or
the loop has no such thing, a bell is `call_soon_threadsafe` itself. Called by what hands work between threads and
loops.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import weakref
from collections import deque
from collections.abc import Callable

__all__ = ["LoopWaker", "waker_for"]

_bells: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopWaker] = weakref.WeakKeyDictionary()


class LoopWaker:
    """Runs callbacks on one loop. Made on that loop's thread."""

    __slots__ = ("__weakref__", "_fd", "_loop", "_queue", "_signalled")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._queue: deque[Callable[[], None]] = deque()
        self._signalled = False
        self._fd = _watched(loop, self)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call `callback()` on the loop, in its turn; from any thread. It must not raise. A closed loop is deaf."""
        if self._fd is None:
            self._call_slowly(callback)
            return
        self._queue.append(callback)
        if not self._signalled:
            self._signalled = True
            os.eventfd_write(self._fd, 1)

    def _call_slowly(self, callback: Callable[[], None]) -> None:
        loop = self._loop()
        try:
            if loop is not None:
                loop.call_soon_threadsafe(callback)
        except RuntimeError:  # it is closed
            pass

    def _on_wakeup(self) -> None:
        """The loop has heard it; twice, if a Ctrl-C broke the loop off between hearing and answering."""
        assert self._fd is not None
        try:
            try:
                os.eventfd_read(self._fd)
            except BlockingIOError:
                pass
            finally:  # a Ctrl-C comes as the read returns: a bell that seems to be rung would be deaf from then on
                self._signalled = (
                    False  # first: what is put from here on rings again, what was put before is taken below
                )
            for _ in range(len(self._queue)):
                self._queue.popleft()()
        finally:
            if self._queue and not self._signalled:  # broken off in the middle: the rest is due when the loop goes on
                self._signalled = True
                os.eventfd_write(self._fd, 1)


def _watched(loop: asyncio.AbstractEventLoop, waker: LoopWaker) -> int | None:
    """Return an eventfd at which `loop` listens for `bell`, and which is closed after both; None if there is none."""
    try:
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    except (AttributeError, OSError):
        return None
    closing = weakref.finalize(waker, os.close, fd)  # not with the loop: a thread that still holds the bell may write
    closing.atexit = False  # nor at the interpreter's end, when threads of ours may still run
    try:
        contextvars.Context().run(
            loop.add_reader, fd, waker._on_wakeup
        )  # in no run's context: it would be kept for ever
    except NotImplementedError:
        return None
    return fd


def waker_for(loop: asyncio.AbstractEventLoop) -> LoopWaker:
    """Return the bell of `loop`, the running one."""
    bell = _bells.get(loop)
    if bell is None:
        bell = _bells[loop] = LoopWaker(loop)
    return bell
