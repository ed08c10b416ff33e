"""Ends of runs that were told and couldn't be written: kept, and tried again while the process lives.

Called by the store, from its writer's thread and whichever thread finds the writer closed. An end is tried again some
time later, ever more seldom, and only when the writer has nothing to do: what it is still trying may go through. The
first one that is written brings the others with it: the disk has room again, the server is back.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable

from desist.db.process.identity import unwritten
from desist.db.writer import Writer
from desist.run.storage.values import StoredRun
from desist.runtime.timer_thread import Timer, reaper

__all__ = ["UnwrittenEnds"]

log = logging.getLogger("desist.db")

#: How many are kept; the oldest go first.
MOST = 1000
#: Seconds after which they are tried again, at first and at most.
FIRST, SLOWEST = 0.5, 30.0


class UnwrittenEnds:
    """Those of one store.

    Parameters:
        writer: what writes them.
        save: tries an end again; what came of it is told to `settle`.
    """

    def __init__(self, writer: Writer, save: Callable[[StoredRun], object]) -> None:
        self._writer, self._save = writer, save
        self.start_anew()
        _all.add(self)

    def start_anew(self) -> None:
        """Forget everything: in a forked child the runs are the parent's."""
        self._lock = threading.Lock()
        self._runs: dict[str, StoredRun] = {}  #: the one that was tried last at the end
        self._timer: Timer | None = None
        self._pause = FIRST

    def get(self, run_id: str) -> StoredRun | None:
        """Return a run that has ended in this process, and whose end could not be written yet."""
        return self._runs.get(run_id)

    def settle(self, run: StoredRun, error: BaseException | None) -> None:
        """An end was written, or couldn't be."""
        with self._lock:
            if error is not None:
                if not self._writer.closing:  # else nobody tries it again
                    self._keep(run)
                return
            self._drop(run.run_id)
            again, self._pause = list(self._runs.values()), FIRST
        for one in again:
            self._save(one)

    def _keep(self, run: StoredRun) -> None:
        self._runs[run.run_id] = run
        unwritten.add(run.run_id)
        while len(self._runs) > MOST:
            given_up = next(iter(self._runs))
            self._drop(given_up)
            log.error("the end of run %s isn't tried again: %d others wait", given_up, MOST, extra={"run_id": given_up})
        self._try_later()

    def _drop(self, run_id: str) -> None:
        if self._runs.pop(run_id, None) is not None:
            unwritten.discard(run_id)

    def forget(self, fits: Callable[[StoredRun], bool] = lambda run: True) -> None:
        """Runs were deleted, belong to another process now, or the store is closed: their ends aren't tried again."""
        with self._lock:
            for run in [run for run in self._runs.values() if fits(run)]:
                self._drop(run.run_id)

    # -- again

    def _try_later(self) -> None:
        """Set the timer, if there is none and something to be tried. With the lock held."""
        if self._timer is None and self._runs and not self._writer.closing:
            self._timer = reaper.call_at(time.monotonic() + self._pause, self._try_again)
            self._pause = min(2 * self._pause, SLOWEST)

    def _try_again(self) -> None:
        """Leave the one that has waited longest to the writer. In the reaper's thread, which nothing here blocks."""
        free = self._writer.idle
        with self._lock:
            self._timer = None
            run = next(iter(self._runs.values()), None) if free else None
            if run is None:
                self._try_later()
                return
            self._runs[run.run_id] = self._runs.pop(run.run_id)  # if it fails, another one is tried the next time
        self._save(run)


_all: weakref.WeakSet[UnwrittenEnds] = weakref.WeakSet()


def _forget_all() -> None:
    for ends in list(_all):
        ends.start_anew()


os.register_at_fork(after_in_child=_forget_all)
