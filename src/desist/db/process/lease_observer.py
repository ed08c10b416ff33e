"""Judges leases of other processes without trusting any wall clock.

A lease is a time in a record. If the wall clock of a machine or of the database steps, the leases of all live processes
look over until their next heartbeats. So a lease counts as over only if its record has also stayed the same for longer
than heartbeats take, by the monotonic clock of this process.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from desist.runtime.fork_hooks import register_at_fork

__all__ = ["LeaseObserver", "leases"]

#: Seconds for which a lease must not have been renewed: twice the interval of heartbeats.
WINDOW = 6.0
_MOST = 10_000  #: leases that are remembered


class LeaseObserver:
    """What this process has seen of the leases of others. From any thread.

    Parameters:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Forget everything: another thread of the parent may have held the lock."""
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[str, float], float] = OrderedDict()  #: since when each lease was seen
        self._undecided_until = 0.0

    def is_over(self, process: str, until: float, now: float) -> bool:
        """Return whether a lease is over.

        Parameters:
            process: whose.
            until: the time in its record. 0: it was ended by a process that knows.
            now: the time that all processes go by.
        """
        if until <= 0:
            return True
        at = self._clock()
        with self._lock:
            since = self._seen.setdefault((process, until), at)
            if len(self._seen) > _MOST:
                self._seen.popitem(last=False)
            if until >= now:
                return False
            if at - since >= WINDOW:
                return True
            self._undecided_until = max(self._undecided_until, since + WINDOW)
            return False

    def wait_decided(self) -> bool:
        """Wait until each lease that looked over can be judged; return False if there was none to wait for."""
        with self._lock:
            seconds = self._undecided_until - self._clock()
        if seconds <= 0:
            return False
        time.sleep(seconds)
        return True


#: The leases that this process has seen.
leases = LeaseObserver()
register_at_fork(after_in_child=leases.reset_after_fork)
