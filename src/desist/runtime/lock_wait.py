"""Wait for a lock so that an exception from outside ends the wait.

A signal handler that raises in the main thread ends any wait on POSIX. But an exception that another thread sets
(`PyThreadState_SetAsyncExc`, as task queues do when a time limit is over) is raised only between two byte codes, and
on Windows so is Ctrl-C. So the wait is made in slices.
"""

from __future__ import annotations

import threading
import time

__all__ = ["acquire"]

#: Seconds after which an exception from outside is raised at the latest; less than the shortest grace, which is 0.05.
#: Each thread that waits wakes so often.
SLICE = 0.02


def acquire(lock: threading.Lock, timeout: float | None = None) -> bool:
    """Acquire `lock`, waiting at most `timeout` seconds; return whether it was acquired."""
    if timeout is None:
        while not lock.acquire(timeout=SLICE):
            pass
        return True
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > SLICE:
        if lock.acquire(timeout=SLICE):
            return True
    return lock.acquire(timeout=max(0.0, left))
