"""Waiting for a key press while something else runs. Knows terminals, not runs.

Ctrl-C stays Ctrl-C. The terminal is put back as it was when the block ends, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator

try:
    import termios
    import tty
except ImportError:  # not a POSIX system: no keys there
    termios = tty = None  # type: ignore[assignment]

__all__ = ["watch_keys"]


@contextlib.contextmanager
def watch_keys(pressed: Callable[[], object]) -> Iterator[bool]:
    """Call `pressed()` once, from a thread, when a key is pressed; the block gets whether keys are watched at all.

    They are if standard input is a terminal and this program is in its foreground. What was typed before counts for
    nothing, and what is typed later doesn't reach the shell.
    """
    terminal = _terminal()
    if terminal is None:
        yield False
        return
    before = termios.tcgetattr(terminal)
    ended, end = os.pipe()
    watcher = threading.Thread(target=_watch, args=(terminal, ended, pressed), name="desist-keys", daemon=True)
    try:
        tty.setcbreak(terminal, termios.TCSAFLUSH)
        watcher.start()
        yield True
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
        os.close(end)
        if watcher.ident is not None:
            watcher.join()
        os.close(ended)


def _terminal() -> int | None:
    if termios is None:
        return None
    try:
        fd = sys.stdin.fileno()
        return fd if os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp() else None
    except (OSError, ValueError, AttributeError):
        return None


def _watch(terminal: int, ended: int, pressed: Callable[[], object]) -> None:
    told = False
    while True:
        ready, _, _ = select.select([terminal, ended], [], [])
        if ended in ready:
            return
        try:
            if not os.read(terminal, 64):
                return
        except OSError:  # the terminal is gone
            return
        if not told:
            told = True
            pressed()
