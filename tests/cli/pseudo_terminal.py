"""A program in a pseudo-terminal, for tests that press keys."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from types import TracebackType

_TAKE = """import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"""
_CONTROL = re.compile(r"\x1b\[[0-?]*[a-zA-Z]")


class Terminal:
    """Runs `python ARGUMENTS` in a session with a pseudo-terminal. All waits end after `patience` seconds."""

    def __init__(self, *arguments: str, patience: float = 40.0, size: tuple[int, int] = (80, 24)) -> None:
        self._deadline = time.monotonic() + patience
        self._master, self._slave = pty.openpty()
        self.modes = termios.tcgetattr(self._slave)
        self._seen = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE, *arguments],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": str(size[0]), "LINES": str(size[1])},
        )

    @property
    def text(self) -> str:
        """The output so far, without control codes."""
        return _CONTROL.sub("", self._seen.decode(errors="replace"))

    @property
    def raw(self) -> str:
        """The output so far, with control codes."""
        return self._seen.decode(errors="replace")

    def read_until(self, words: str) -> None:
        """Read until the output contains `words`."""
        while words not in self.text:
            assert self._read(), f"the program ended without {words!r}: {self.text}"

    def press(self, keys: str) -> None:
        """Write keys to the terminal."""
        os.write(self._master, keys.encode())

    def wait(self) -> int:
        """Read until the program has ended; return its exit code."""
        while self._read():
            pass
        return self.process.wait(1)

    def current_modes(self) -> list[object]:
        """Return the modes of the terminal."""
        return termios.tcgetattr(self._slave)

    def _read(self) -> bool:
        """Read some output; return False if the program has ended and everything was read."""
        while True:
            assert time.monotonic() < self._deadline, f"too slow: {self.text}"
            ended = self.process.poll() is not None
            ready, _, _ = select.select([self._master], [], [], 0 if ended else 0.05)
            if ready:
                self._seen += os.read(self._master, 65536)
                return True
            if ended:
                return False

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)
        os.close(self._slave)
