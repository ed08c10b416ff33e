"""Wake an event loop from other threads, for half of the cost of `call_soon_threadsafe`.

The `LoopWaker` of a loop is a queue of callbacks and an eventfd that the loop watches: one write and one read of eight
bytes serve all callbacks that came meanwhile, where asyncio sends a byte through a socket pair for each. Where the
system or the loop has no eventfd or no readers, `call_soon_threadsafe` is used.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import weakref
from collections import deque
from collections.abc import Callable

__all__ = ["LoopWaker", "waker_for"]

_wakers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopWaker] = weakref.WeakKeyDictionary()


class LoopWaker:
    """Run callbacks on one loop. Created on the thread of the loop.

    There is no lock. Invariant: if the queue isn't empty, either the eventfd is readable, or a thread is between
    appending and writing, or `_on_wakeup` is running and will take the callback. So a caller appends before it reads
    `_signalled`, and `_on_wakeup` resets `_signalled` before it takes callbacks. Two callers may both see False and
    write twice: the eventfd adds the writes up, and the loop wakes once.
    """

    __slots__ = ("__weakref__", "_fd", "_loop", "_queue", "_signalled")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._queue: deque[Callable[[], None]] = deque()
        self._signalled = False
        self._fd = _watch_eventfd(loop, self)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Schedule `callback` on the loop. Thread-safe. `callback` must not raise.

        Does nothing if the loop is closed.
        """
        if self._fd is None:
            self._call_soon_threadsafe(callback)
            return
        self._queue.append(callback)
        if not self._signalled:
            self._signalled = True
            os.eventfd_write(self._fd, 1)

    def _call_soon_threadsafe(self, callback: Callable[[], None]) -> None:
        loop = self._loop()
        try:
            if loop is not None:
                loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop is closed
            pass

    def _on_wakeup(self) -> None:
        """Run the callbacks that were queued before this. On the thread of the loop.

        A KeyboardInterrupt may break the loop off anywhere in here. The reader stays registered, so this runs again
        when the loop goes on; the eventfd may have been read already.
        """
        assert self._fd is not None
        try:
            try:
                os.eventfd_read(self._fd)
            except BlockingIOError:
                pass
            finally:
                # In `finally`: KeyboardInterrupt may be raised as the read returns, and no later call would write.
                # Before callbacks are taken: a callback that is queued from here on is followed by a write.
                self._signalled = False
            for _ in range(len(self._queue)):
                self._queue.popleft()()
        finally:
            if self._queue and not self._signalled:  # interrupted: the others run when the loop goes on
                self._signalled = True
                os.eventfd_write(self._fd, 1)


def _watch_eventfd(loop: asyncio.AbstractEventLoop, waker: LoopWaker) -> int | None:
    """Return an eventfd that `loop` watches for `waker`; None if the system or the loop has no such thing."""
    try:
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    except (AttributeError, OSError):
        return None
    # Closed with the waker and not with the loop, nor at the exit of the interpreter: a thread that still holds the
    # waker may write, and the number of a closed descriptor may belong to another file.
    closing = weakref.finalize(waker, os.close, fd)
    closing.atexit = False
    try:
        # In an empty context: the loop would keep the context of the current run for ever.
        contextvars.Context().run(loop.add_reader, fd, waker._on_wakeup)
    except NotImplementedError:
        return None
    return fd


def waker_for(loop: asyncio.AbstractEventLoop) -> LoopWaker:
    """Return the waker of `loop`, which must be the running loop: only its thread creates and looks up the waker."""
    waker = _wakers.get(loop)
    if waker is None:
        waker = _wakers[loop] = LoopWaker(loop)
    return waker
