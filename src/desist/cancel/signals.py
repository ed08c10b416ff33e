"""Signals: distinguish Ctrl-C from other cancellations, and drain the runs on SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from desist.cancel.reason import Source
from desist.cancel.shutdown import drain, stop_all
from desist.runtime.timer_thread import timers

__all__ = ["cancellation_source", "drain_on_sigterm", "main_handles_interrupt"]


def cancellation_source() -> Source:
    """Return the source of a cancellation of the current task: Ctrl-C under `asyncio.run`, or other code.

    `asyncio.Runner` turns the first Ctrl-C into a cancellation of its main task and counts the signals.
    """
    handler = signal.getsignal(signal.SIGINT)
    runner = getattr(getattr(handler, "func", handler), "__self__", None)
    pressed = isinstance(runner, asyncio.Runner) and getattr(runner, "_interrupt_count", 0) > 0
    return Source.interrupt if pressed else Source.consumer_closed


def main_handles_interrupt() -> bool:
    """Whether the main thread is in an `except` or `finally` block of a KeyboardInterrupt now. From any thread."""
    handled: Any = sys._current_exceptions().get(threading.main_thread().ident or 0)
    return isinstance(handled[1] if isinstance(handled, tuple) else handled, KeyboardInterrupt)


@contextlib.contextmanager
def drain_on_sigterm(timeout: float = 10.0) -> Iterator[None]:
    """Handle SIGTERM in the block: cancel all live runs, wait until they have settled, exit with status 0.

    Main thread only. A second SIGTERM exits at once, without waiting for the event loop.

    Parameters:
        timeout: seconds to wait for the runs at most.

    Raises:
        ValueError: not in the main thread.
    """

    received = False

    def handle(number: int, frame: FrameType | None) -> None:
        # Runs in the main thread between any two instructions, which may hold any lock: so it takes none. The cancel
        # is done by the timer thread, or after the main thread has unwound.
        nonlocal received
        again, received = received, True
        loop = asyncio._get_running_loop()
        if loop is None or again:
            raise SystemExit(0)
        # Raised here, SystemExit would end the task that runs now, as if that had failed. So it is raised in a
        # callback of the loop, and the timer thread cancels the runs even if the loop is blocked. Both do so once: a
        # run that is being cancelled ignores the second request.
        timers.call_soon(_cancel_all)
        loop.call_soon_threadsafe(_cancel_all_and_exit)

    timers.start()
    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if received:
            drain(timeout)


def _cancel_all() -> None:
    stop_all(Source.shutdown, "SIGTERM")


def _cancel_all_and_exit() -> None:
    _cancel_all()
    raise SystemExit(0)
