"""Signals: telling a Ctrl-C from other cancellations, and leaving in order when the process is told to end."""

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
from desist.runtime.timer_thread import reaper

__all__ = ["cancellation_source", "drain_on_sigterm", "main_handles_interrupt"]


def cancellation_source() -> Source:
    """Return why the task at hand was cancelled from outside: by Ctrl-C under `asyncio.run`, or by whoever holds it.

    `asyncio.Runner` turns the first Ctrl-C into a cancellation of its main task, and keeps count.
    """
    handler = signal.getsignal(signal.SIGINT)
    runner = getattr(getattr(handler, "func", handler), "__self__", None)
    pressed = isinstance(runner, asyncio.Runner) and getattr(runner, "_interrupt_count", 0) > 0
    return Source.interrupt if pressed else Source.consumer_closed


def main_handles_interrupt() -> bool:
    """Whether the main thread is handling a Ctrl-C right now, in an `except` or `finally`."""
    handled: Any = sys._current_exceptions().get(threading.main_thread().ident or 0)
    return isinstance(handled[1] if isinstance(handled, tuple) else handled, KeyboardInterrupt)


@contextlib.contextmanager
def drain_on_sigterm(timeout: float = 10.0) -> Iterator[None]:
    """Inside the block, SIGTERM cancels all live runs, waits until they have settled, and ends the program with 0.

    A library doesn't take signals unasked: a program that serves says so. Main thread only.

    Parameters:
        timeout: seconds to wait at most.

    Raises:
        ValueError: not in the main thread.
    """

    told = False

    def leave(number: int, frame: FrameType | None) -> None:
        nonlocal told
        again, told = told, True
        loop = asyncio._get_running_loop()
        if loop is None or again:
            raise SystemExit(0)  # unwinds the main thread first: it may hold a lock that a cancel needs
        # Raised here it would end whatever task is at it, as if that had failed. So: between two of them.
        reaper.call_soon(_shut_down)  # though the loop be blocked
        loop.call_soon_threadsafe(_shutdown_and_exit)

    reaper.start()
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if told:
            drain(timeout)


def _shut_down() -> None:
    stop_all(Source.shutdown, "SIGTERM")


def _shutdown_and_exit() -> None:
    _shut_down()
    raise SystemExit(0)
