"""The pool of warm worker processes, and the thread that keeps it.

The keeper starts workers, reaps them, and ends those that were idle for long; calls take and release them. Nobody is
forked from this process: a worker is a fresh interpreter. Starting one takes some 30 ms, so one is kept ahead.
"""

from __future__ import annotations

import asyncio
import atexit
import collections
import contextlib
import logging
import os
import pickle
import select
import threading
import time
from dataclasses import dataclass

from desist.calls.process.protocol import frame
from desist.calls.process.worker_process import MARK, WorkerProcess, current_settings
from desist.cancel.shutdown import drain

__all__ = ["IDLE", "MAX_WORKERS", "ProcessPool", "pool"]

log = logging.getLogger("desist.cancel")

#: How many workers may be alive and not on their way out; further calls wait for one.
MAX_WORKERS = max(4, os.cpu_count() or 1)
#: Seconds after which an idle worker is ended.
IDLE = 30.0
#: Seconds until a worker is started ahead: until then the processor belongs to the call.
AHEAD = 0.03
#: Seconds that a worker without a call may take to end before it is killed.
LEAVING = 1.0
#: How large the message may be that names what a spare worker imports ahead.
MOST_BYTES = 65536


@dataclass(slots=True, eq=False)
class _Waiter:
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[WorkerProcess]
    worker: WorkerProcess | None = None
    error: OSError | None = None

    def answer(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            assert self.worker is not None
            self.future.set_result(self.worker)

    def wake(self) -> bool:
        """Resolve the future on its loop; return False if that is closed."""
        try:
            self.loop.call_soon_threadsafe(self.answer)
        except RuntimeError:
            return False
        return True


class ProcessPool:
    """Workers of this process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._idle: list[WorkerProcess] = []
        self._alive: dict[int, WorkerProcess] = {}  #: by pidfd; those on their way out too
        self._waiters: collections.deque[_Waiter] = collections.deque()
        self._leaving: dict[WorkerProcess, float] = {}  #: when they are killed
        self._modules: set[str] = set()  #: what the last call needed, and the next may
        self._spare_due: float | None = None  #: when one is started ahead
        self._closed = False
        self._keeper: threading.Thread | None = None
        self._bell = -1

    # -- for calls

    async def take(self, modules: set[str]) -> WorkerProcess:
        """Return a worker, as soon as one may be used. `modules` is what calls like this one need.

        Raises:
            OSError: none can be started.
            RuntimeError: the interpreter is ending.
        """
        with self._changed:
            if self._closed:
                raise RuntimeError("the interpreter is ending: no process is started for a call any more")
            self._modules = modules
            worker = self._pop_idle()
            waiter = None
            if worker is None:
                loop = asyncio.get_running_loop()
                waiter = _Waiter(loop, loop.create_future())
                self._waiters.append(waiter)
            if waiter is not None or not self._idle:
                self._want_spare()
                self._wake()
        if waiter is None:
            assert worker is not None
            return worker
        try:
            return await waiter.future
        except asyncio.CancelledError:
            with self._changed, contextlib.suppress(ValueError):
                self._waiters.remove(waiter)
            if waiter.worker is not None:
                self.release(waiter.worker)
            raise

    def release(self, worker: WorkerProcess, *, fit: bool = True) -> None:
        """Give a worker back; one that isn't `fit` for another call is ended."""
        if not fit:
            worker.close_after_call()
        with self._changed:
            if worker.dead:
                return
            if worker.stopping or self._closed:
                self._leaving.setdefault(worker, time.monotonic() + LEAVING)
                self._wake()
            else:
                self._offer(worker)

    def stopped(self) -> None:
        """A worker is being killed: start another in its place, soon, in the background."""
        with self._changed:
            self._want_spare()
            self._wake()

    def counts(self) -> tuple[int, int]:
        """Return how many workers are alive, and how many of them are idle."""
        with self._changed:
            return len(self._alive), len(self._idle)

    def empty(self, timeout: float = LEAVING) -> bool:
        """End all workers; return whether they are gone.

        Parameters:
            timeout: seconds that this may take; after half of it they are killed.
        """
        with self._changed:
            self._spare_due = None
            workers, self._idle = list(self._alive.values()), []
        for worker in workers:
            worker.close_after_call()
        for _ in range(2):
            with self._changed:
                if self._changed.wait_for(lambda: not any(one in workers for one in self._alive.values()), timeout / 2):
                    return True
            for worker in workers:
                worker.kill()
        return False

    def close(self) -> None:
        """End all workers and start no more. Takes `LEAVING` seconds at most."""
        with self._changed:
            self._closed = True
        self.empty()

    def reset_after_fork(self) -> None:
        """Start anew, in a forked child: the workers belong to the parent."""
        for worker in self._alive.values():
            worker.reset_after_fork()
        if self._bell >= 0:
            os.close(self._bell)
        self.__init__()  # type: ignore[misc]

    # -- with the lock held

    def _pop_idle(self) -> WorkerProcess | None:
        while self._idle:
            worker = self._idle.pop()
            if not worker.stopping:
                return worker
        return None

    def _offer(self, worker: WorkerProcess) -> None:
        """Give a worker to the one who waits longest, or keep it."""
        while self._waiters:
            waiter = self._waiters.popleft()
            waiter.worker = worker
            if not waiter.future.cancelled() and waiter.wake():
                return
            waiter.worker = None
        worker.idle_since = time.monotonic()
        self._idle.append(worker)

    def _want_spare(self) -> None:
        if self._spare_due is None:
            self._spare_due = time.monotonic() + AHEAD

    def _wake(self) -> None:
        if self._keeper is None:
            self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._keeper = threading.Thread(target=self._run, args=(self._bell,), name="desist-processes", daemon=True)
            self._keeper.start()
        os.eventfd_write(self._bell, 1)

    # -- the keeper's thread

    def _run(self, wake_fd: int) -> None:
        poll = select.poll()
        poll.register(wake_fd, select.POLLIN)
        while True:
            ready = poll.poll(self._pause() * 1000)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(wake_fd)
            for fd, _ in ready:
                if fd != wake_fd:
                    poll.unregister(fd)
                    self._reap(fd)
            self._end_idle()
            for worker in self._start_needed_workers():
                poll.register(worker.pidfd, select.POLLIN)

    def _pause(self) -> float:
        """Return the seconds until something is due here."""
        with self._changed:
            dues = [worker.idle_since + IDLE for worker in self._idle] + list(self._leaving.values())
            if self._spare_due is not None:
                dues.append(self._spare_due)
        return max(0.0, min(dues, default=time.monotonic() + 3600.0) - time.monotonic()) + 0.001

    def _reap(self, fd: int) -> None:
        worker = self._alive[fd]
        worker.reap()
        with self._changed:
            del self._alive[fd]
            self._leaving.pop(worker, None)
            if worker in self._idle:
                self._idle.remove(worker)
            self._changed.notify_all()

    def _end_idle(self) -> None:
        now = time.monotonic()
        with self._changed:
            old = [worker for worker in self._idle if worker.idle_since + IDLE <= now]
            for worker in old:
                self._idle.remove(worker)
                self._leaving[worker] = now + LEAVING
            late = [worker for worker, due in self._leaving.items() if due <= now]
            for worker in late:
                self._leaving[worker] = now + LEAVING  # and again, should it still be there
        for worker in old:
            worker.close_after_call()
        for worker in late:
            worker.kill()

    def _start_needed_workers(self) -> list[WorkerProcess]:
        """Start workers for those who wait, and one ahead."""
        started: list[WorkerProcess] = []
        while True:
            with self._changed:
                if self._closed or not self._has_capacity() or not (self._waiters or self._spare_is_due()):
                    return started
            try:
                worker = WorkerProcess()
            except OSError as error:
                log.warning("no process could be started for calls: %s", error)
                self._refuse(error)
                return started
            self._preload(worker)
            started.append(worker)
            with self._changed:
                self._alive[worker.pidfd] = worker
                self._offer(worker)

    def _has_capacity(self) -> bool:
        return sum(not worker.stopping for worker in self._alive.values()) < MAX_WORKERS

    def _spare_is_due(self) -> bool:
        """Whether one is to be started ahead now; asks once."""
        if self._spare_due is None or self._spare_due > time.monotonic():
            return False
        self._spare_due = None
        return not self._idle

    def _refuse(self, error: OSError) -> None:
        with self._changed:
            self._spare_due = None
            refused = [] if any(not worker.stopping for worker in self._alive.values()) else list(self._waiters)
            for waiter in refused:
                self._waiters.remove(waiter)
        for waiter in refused:
            waiter.error = error
            waiter.wake()

    def _preload(self, worker: WorkerProcess) -> None:
        settings = current_settings()
        body = pickle.dumps((settings, {MARK: worker.mark}, sorted(self._modules)), protocol=5)
        if self._modules and len(body) < MOST_BYTES:
            worker.settings = settings
            worker.socket.send(frame(b"P", body))


#: The pool of this process.
pool = ProcessPool()


def _leave() -> None:
    drain()  # exit handlers run last in, first out: the runs have to end before their workers
    pool.close()


atexit.register(_leave)
os.register_at_fork(after_in_child=pool.reset_after_fork)
