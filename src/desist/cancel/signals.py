"""Signals: what an exception in a waiting thread or task means for its run, and draining the runs on SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from desist.cancel.context import current_owner
from desist.cancel.reason import Source
from desist.cancel.shutdown import drain, stop_all
from desist.runtime.timer_thread import timers

__all__ = ["drain_on_sigterm", "source_of", "source_of_main_thread"]


def source_of(error: BaseException) -> Source:
    """Return the source of the cancel of a run whose waiting thread or task was reached by `error`, from outside.

    In that thread or task, while it handles `error`.
    """
    if isinstance(error, asyncio.CancelledError):
        if _interrupted_runner():
            return Source.interrupt
        # `asyncio.run` cancels its tasks while it handles the exception that has ended the loop.
        error = error.__context__ or error
    if isinstance(error, KeyboardInterrupt):
        return Source.interrupt
    # `SystemExit` in a tool ends that tool and not the process.
    if isinstance(error, SystemExit) and current_owner() is None:
        return Source.shutdown
    return Source.consumer_closed


def _interrupted_runner() -> bool:
    """Whether `asyncio.run` turned Ctrl-C into a cancellation of its main task. `Runner` counts the signals."""
    handler = signal.getsignal(signal.SIGINT)
    runner = getattr(getattr(handler, "func", handler), "__self__", None)
    return isinstance(runner, asyncio.Runner) and getattr(runner, "_interrupt_count", 0) > 0


def source_of_main_thread() -> Source:
    """Return why the main thread leaves what it does: an exception that it handles now, its end, or neither.

    From any thread.
    """
    main = threading.main_thread()
    handled: Any = sys._current_exceptions().get(main.ident or 0)
    error = handled[1] if isinstance(handled, tuple) else handled
    if isinstance(error, KeyboardInterrupt):
        return Source.interrupt
    return Source.shutdown if isinstance(error, SystemExit) or not main.is_alive() else Source.consumer_closed


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
