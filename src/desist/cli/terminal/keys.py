"""Read key presses in a thread, while the main thread works.

Ctrl-C still sends SIGINT. The terminal's settings are restored at the end of the block, also after an exception.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
import threading
from collections.abc import Callable, Iterator

try:
    import termios
    import tty
except ImportError:  # not a POSIX system: no keys there
    termios = tty = None  # type: ignore[assignment]

__all__ = ["each_key", "keys_of", "watch_keys"]

#: One key: the escape sequence of a special key, or a character.
_KEY = re.compile(r"\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Za-z])|[\s\S]")
_NAMES = {
    **dict.fromkeys(("\x1b[A", "\x1bOA"), "up"),
    **dict.fromkeys(("\x1b[B", "\x1bOB"), "down"),
    **dict.fromkeys(("\x1b[C", "\x1bOC"), "right"),
    **dict.fromkeys(("\x1b[D", "\x1bOD"), "left"),
    **dict.fromkeys(("\r", "\n"), "enter"),
    "\x1b": "escape",
    "\x7f": "backspace",
}


@contextlib.contextmanager
def watch_keys(pressed: Callable[[], object]) -> Iterator[bool]:
    """Call `pressed()` once, in a thread, when a key is pressed; yield whether keys are watched.

    Keys are watched if stdin is a terminal and this program is in its foreground. Earlier input is discarded, and input
    inside the block doesn't reach the shell.
    """
    called = False

    def once(key: str) -> None:
        nonlocal called
        if not called:
            called = True
            pressed()

    with each_key(once) as watched:
        yield watched


@contextlib.contextmanager
def each_key(pressed: Callable[[str], object]) -> Iterator[bool]:
    """Like `watch_keys`, for every key: call `pressed(key)` with a character or a name such as "up" or "escape"."""
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


def keys_of(typed: str) -> list[str]:
    """Return the keys in a piece of terminal input."""
    return [_NAMES.get(piece, piece) for piece in _KEY.findall(typed)]


def _terminal() -> int | None:
    if termios is None:
        return None
    try:
        fd = sys.stdin.fileno()
        return fd if os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp() else None
    except (OSError, ValueError, AttributeError):
        return None


def _watch(terminal: int, ended: int, pressed: Callable[[str], object]) -> None:
    while True:
        ready, _, _ = select.select([terminal, ended], [], [])
        if ended in ready:
            return
        try:
            typed = os.read(terminal, 64)
        except OSError:  # the terminal was closed
            return
        if not typed:
            return
        for key in keys_of(typed.decode(errors="ignore")):
            pressed(key)
