"""Detect at once that the reader of stdout has gone, not at the next write: `desist events --follow | head -1`."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from desist.cli.exit_codes import ExitCode

__all__ = ["exit_on_broken_pipe", "watch_reader"]


@contextlib.contextmanager
def watch_reader(on_closed: Callable[[], object]) -> Iterator[None]:
    """Inside the block, call `on_closed()` once, in a thread, when the reader of stdout has gone."""
    fd = _pipe()
    if fd is None:
        yield
        return
    ended, end = os.pipe()
    watcher = threading.Thread(target=_watch, args=(fd, ended, on_closed), name="desist-reader", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        os.close(end)
        watcher.join()
        os.close(ended)


def _pipe() -> int | None:
    try:
        fd = sys.stdout.fileno()
        mode = os.fstat(fd).st_mode
    except (OSError, ValueError, AttributeError):
        return None
    return fd if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else None


def _watch(fd: int, ended: int, on_closed: Callable[[], object]) -> None:
    poll = select.poll()
    poll.register(fd, 0)  # errors and hang-ups are always reported
    poll.register(ended, select.POLLIN)
    ready = dict(poll.poll())
    if ended not in ready:
        on_closed()


@contextlib.contextmanager
def exit_on_broken_pipe() -> Iterator[None]:
    """Inside the block, exit with code 1 when the reader of stdout has gone, as a write to the pipe would.

    Main thread only. Raises SystemExit instead of an OSError, after which a client that reads a socket would reconnect.
    """
    main = threading.get_ident()
    before = signal.signal(signal.SIGUSR1, _leave)
    try:
        with watch_reader(lambda: signal.pthread_kill(main, signal.SIGUSR1)):
            yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(ExitCode.error)
