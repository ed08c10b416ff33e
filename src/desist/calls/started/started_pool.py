"""A pool of `multiprocessing` that a call has made, and a job in a process pool that it hasn't made."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import Future
from typing import Any

from desist.calls.started.member import MemberOwner
from desist.cancel.receipt import Abandoned
from desist.runtime.daemon_thread import start_daemon_thread

__all__ = ["StartedPool", "StartedPoolJob"]


#: Seconds that the creation of a pool may take.
MAKING_TIMEOUT = 1.0


class StartedPool:
    """A `multiprocessing.Pool` or `ThreadPool`.

    Its helper threads replace workers that are killed, so that only its own `terminate` ends it. That waits for these
    threads: it is called in a thread of its own.
    """

    kind = "process"
    name = "Pool"
    shield_deadline = 0.0

    def __init__(self, pool: Any, work: MemberOwner) -> None:
        self.started_at = time.time()
        self.ended = True  #: until it is being terminated: an idle pool is no work
        self._pool: Any = pool
        self._work = work

    def holds(self, pool: Any) -> bool:
        """Return whether this is the record of `pool`."""
        return self._pool is pool

    def interrupt(self, grace: float, force: bool) -> None:
        """Terminate the pool. From any thread; returns at once. Again without effect."""
        if self._pool is None:
            return
        pool, self._pool, self.ended = self._pool, None, False
        start_daemon_thread(lambda: self._terminate(pool), "desist-terminate-pool")

    def _terminate(self, pool: Any) -> None:
        # A pool starts its first thread before its `terminate` can be called, which no public attribute tells.
        made_by = time.monotonic() + MAKING_TIMEOUT
        while not hasattr(pool, "_terminate") and time.monotonic() < made_by:
            time.sleep(0.001)
        try:
            with contextlib.suppress(AttributeError):  # the call was interrupted before the pool was made
                pool.terminate()
        finally:
            self.ended = True
            self._work.member_ended(self)

    def close(self) -> None:
        """Let go of the pool."""
        self._pool = None

    def stack(self) -> str:
        """Return ""."""
        return ""

    def abandon(self, call: str) -> list[Abandoned]:
        """Return a record of a pool whose `terminate` hasn't returned."""
        return [] if self.ended else [Abandoned(name=self.name, kind=self.kind, waits_for="terminate()", call=call)]


class StartedPoolJob:
    """A job in a `ProcessPoolExecutor`. A job that runs ends only with its process, which may not be the call's."""

    kind = "process"
    shield_deadline = 0.0

    def __init__(self, name: str, work: MemberOwner) -> None:
        self.name = name
        self.started_at = time.time()
        self.ended = False
        self._work = work
        self._future: Future[Any] | None = None

    def watch(self, future: Future[Any]) -> None:
        """Set the job's future, which tells its end."""
        self._future = future
        future.add_done_callback(lambda _: self.end())

    def end(self) -> None:
        """Note that the job has ended, or won't start. From any thread."""
        self.ended = True
        self._work.member_ended(self)

    def interrupt(self, grace: float, force: bool) -> None:
        """Take the job back if it hasn't started."""
        if self._future is not None:
            self._future.cancel()

    def stack(self) -> str:
        """Return "": the frames are in another process."""
        return ""

    def abandon(self, call: str) -> list[Abandoned]:
        """Return a record of the job, which runs in a process that the call hasn't started."""
        where = "a worker of a process pool that the call has not created"
        return [Abandoned(name=self.name, kind=self.kind, waits_for=where, call=call)]
