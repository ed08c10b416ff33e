"""A reader of our output that has left, noticed at once, not at the next line: `desist events --follow | head -1`."""

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
def watch_reader(left: Callable[[], object]) -> Iterator[None]:
    """Inside the block, call `left()` once, in a thread, when nobody can read what we write any more."""
    fd = _pipe()
    if fd is None:
        yield
        return
    ended, end = os.pipe()
    watcher = threading.Thread(target=_watch, args=(fd, ended, left), name="desist-reader", daemon=True)
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


def _watch(fd: int, ended: int, left: Callable[[], object]) -> None:
    poll = select.poll()
    poll.register(fd, 0)  # errors and hang-ups are told unasked
    poll.register(ended, select.POLLIN)
    ready = dict(poll.poll())
    if ended not in ready:
        left()


@contextlib.contextmanager
def exit_on_broken_pipe() -> Iterator[None]:
    """Inside the block, end the program when the reader has left: exit code 1, as for a pipe that is written to.

    Main thread only. It isn't raised as an error of I/O: whatever reads a socket just then would try again.
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
