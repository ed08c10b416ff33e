"""The notes: one file to which every process appends what it does, a line of JSON each, with the machine's clock.

The verdict is made from it, so it must not lie where the database is broken: it lies on another file system, and a
line is one write with O_APPEND, which a kill -9 leaves whole or out. CLOCK_MONOTONIC is the same for all processes.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["Notes", "NotesHandler", "read_notes"]


class Notes:
    """A pen: writes lines into the file."""

    def __init__(self, path: Path, who: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.who, self._pid = who, os.getpid()

    def __call__(self, what: str, **more: Any) -> None:
        """Write down that something has happened just now."""
        line = {"t": time.monotonic(), "who": self.who, "pid": self._pid, "what": what, **more}
        os.write(self._file, (json.dumps(line) + "\n").encode())


class NotesHandler(logging.Handler):
    """Writes warnings and errors of the log among the notes, tracebacks too."""

    def __init__(self, notes: Notes) -> None:
        super().__init__(logging.WARNING)
        self._notes = notes
        self._format = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one down."""
        trace = self._format.formatException(record.exc_info) if record.exc_info else None
        self._notes("log", level=record.levelname, name=record.name, text=record.getMessage(), trace=trace)


def read_notes(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines that there are by now."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
