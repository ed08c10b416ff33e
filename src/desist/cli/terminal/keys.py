"""Key presses, while something else runs. Knows terminals, not runs.

Ctrl-C stays Ctrl-C. The terminal is put back as it was when the block ends, however it ends.
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

#: One key: a sequence that a special key sends, or a character.
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
    """Call `pressed()` once, from a thread, when a key is pressed; the block gets whether keys are watched at all.

    They are if standard input is a terminal and this program is in its foreground. What was typed before counts for
    nothing, and what is typed later doesn't reach the shell.
    """
    told = False

    def once(key: str) -> None:
        nonlocal told
        if not told:
            told = True
            pressed()

    with each_key(once) as watched:
        yield watched


@contextlib.contextmanager
def each_key(pressed: Callable[[str], object]) -> Iterator[bool]:
    """Do the same for every key: call `pressed(key)` with a character, or a name such as "up", "enter", "escape"."""
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
    """Return the keys behind what a terminal sent in one piece."""
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
        except OSError:  # the terminal is gone
            return
        if not typed:
            return
        for key in keys_of(typed.decode(errors="ignore")):
            pressed(key)
