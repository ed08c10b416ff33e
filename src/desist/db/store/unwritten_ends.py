"""`UnwrittenEnds`: ends of runs that were announced and could not be stored. They are retried while the process lives.

`settle` is called by the writer's thread, the thread of its deadlines, and a caller that finds the writer closed;
`_try_again` by the timer thread. The lock is not held while an end is saved, because saving may call `settle` at once.
A retry waits longer each time, and until the writer is idle, because what the writer is still trying may succeed. The
first end that is stored sends the others with it: the disk has room again, the server is back. An end that is in the
writer is not sent again before the writer has settled it.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable

from desist.db.process.unregistered_runs import unregistered_runs
from desist.db.writer import Writer
from desist.run.storage.values import StoredRun
from desist.runtime.fork_hooks import register_at_fork
from desist.runtime.timer_thread import Timer, timers

__all__ = ["UnwrittenEnds"]

log = logging.getLogger("desist.db")

#: The maximum of ends that are kept; the oldest are dropped.
MOST = 1000
#: Seconds before a retry, at first and at most.
FIRST, SLOWEST = 0.5, 30.0


class UnwrittenEnds:
    """The ends of one store that are to be retried.

    Parameters:
        save: gives an end to the writer, and calls `settle` when that is done.
    """

    def __init__(self, writer: Writer, save: Callable[[StoredRun], object]) -> None:
        self._writer, self._save = writer, save
        self.reset_after_fork()
        _all.add(self)

    def reset_after_fork(self) -> None:
        """Forget everything: in a forked child the runs are the parent's."""
        self._lock = threading.Lock()
        self._runs: dict[str, StoredRun] = {}  #: the one that was tried last is at the end
        self._in_writer: set[str] = set()  #: ids of those that the writer has not settled yet
        self._timer: Timer | None = None
        self._pause = FIRST

    def get(self, run_id: str) -> StoredRun | None:
        """Return a run that has ended in this process and whose end could not be stored yet."""
        return self._runs.get(run_id)

    def settle(self, run: StoredRun, error: BaseException | None) -> None:
        """Record that an end was stored, or could not be. Idempotent."""
        again: list[StoredRun] = []
        with self._lock:
            self._in_writer.discard(run.run_id)
            if error is not None:
                if not self._writer.closing:  # a closing writer takes no retry
                    self._keep(run)
            else:
                self._drop(run.run_id)
                again, self._pause = [one for one in self._runs.values() if one.run_id not in self._in_writer], FIRST
                self._in_writer.update(one.run_id for one in again)
        for one in again:
            self._save(one)

    def _keep(self, run: StoredRun) -> None:
        self._runs[run.run_id] = run
        unregistered_runs.add_unwritten(run.run_id)
        while len(self._runs) > MOST:
            given_up = next(iter(self._runs))
            self._drop(given_up)
            words = "the end of run %s is not stored, and not retried any more: %d others wait"
            log.error(words, given_up, MOST, extra={"run_id": given_up})
        self._try_later()

    def _drop(self, run_id: str) -> None:
        if self._runs.pop(run_id, None) is not None:
            unregistered_runs.remove_unwritten(run_id)

    def forget(self, fits: Callable[[StoredRun], bool] = lambda run: True) -> None:
        """Stop retrying: the runs were deleted, another process owns them, or the store is closed."""
        with self._lock:
            for run in [run for run in self._runs.values() if fits(run)]:
                self._drop(run.run_id)

    # -- again

    def _try_later(self) -> None:
        """Set the timer, if there is none and there is something to retry. With the lock held."""
        if self._timer is None and self._runs and not self._writer.closing:
            self._timer = timers.call_at(time.monotonic() + self._pause, self._try_again)
            self._pause = min(2 * self._pause, SLOWEST)

    def _try_again(self) -> None:
        """Give the end that has waited longest to the writer. On the timer thread, which nothing here blocks."""
        free = self._writer.idle
        with self._lock:
            self._timer = None
            waiting = (one for one in self._runs.values() if one.run_id not in self._in_writer)
            run = next(waiting, None) if free else None
            if run is None:
                self._try_later()
                return
            self._in_writer.add(run.run_id)
            self._runs[run.run_id] = self._runs.pop(run.run_id)  # if it fails, another one is tried the next time
        self._save(run)


_all: weakref.WeakSet[UnwrittenEnds] = weakref.WeakSet()


def _forget_all() -> None:
    for ends in list(_all):
        ends.reset_after_fork()


register_at_fork(after_in_child=_forget_all)
