"""Rate limit for log lines that clients can cause."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

__all__ = ["LogLimit"]

MOST_KINDS = 1000  #: remembered at once; then all counts start again


class LogLimit(logging.Filter):
    """Passes a limited number of lines of each kind in each interval. The next line reports how many were dropped.

    The kind of a line is its logger, level, message before formatting, and exception type. Add it to loggers, not to
    handlers. Thread-safe.

    Parameters:
        most: lines of one kind in an interval.
        seconds: the length of the interval.
        clock: a monotonic clock.
    """

    def __init__(self, most: int = 5, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._most, self._seconds, self._clock = most, seconds, clock
        self._lock = threading.Lock()
        self._seen: dict[tuple[object, ...], list[float]] = {}  #: start of the interval, lines, dropped lines

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write this line."""
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
            record.msg, record.args = f"{record.getMessage()} ({left_out} similar lines were dropped)", None
        return True
