"""Lines of the log that strangers can cause, few enough to be kept."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

__all__ = ["LogLimit"]

MOST_KINDS = 1000


class LogLimit(logging.Filter):
    """Lets some lines of each kind through in a while, and says how many were left out with the next one.

    A kind is a logger, a level, a message before its arguments are put in, and the type of the error. For `addFilter`
    of the loggers themselves. Called from any thread.

    Parameters:
        most: lines of a kind in a while.
        seconds: the while.
        clock: seconds, ever growing.
    """

    def __init__(self, most: int = 5, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._most, self._seconds, self._clock = most, seconds, clock
        self._lock = threading.Lock()
        self._seen: dict[tuple[object, ...], list[float]] = {}  #: since when, how many lines, how many left out

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line is written."""
        error = record.exc_info[0] if record.exc_info else None
        kind = (record.name, record.levelno, str(record.msg)[:200], error)
        now = self._clock()
        with self._lock:
            if len(self._seen) >= MOST_KINDS:
                self._seen.clear()
            seen = self._seen.setdefault(kind, [now, 0, 0])
            if now - seen[0] >= self._seconds:
                left_out, seen[:] = int(seen[2]), [now, 0, 0]
            else:
                left_out = 0
            seen[1] += 1
            if seen[1] > self._most:
                seen[2] += 1
                return False
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} more lines like this were left out)", None
        return True
