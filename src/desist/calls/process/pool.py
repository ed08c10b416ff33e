"""The pool of warm worker processes, and the thread that maintains it.

The pool thread starts workers, reaps them, and ends workers that were idle for long; calls take and release them. A
worker is a fresh interpreter and not a fork of this process. A start takes some 30 ms, so a spare worker is kept.
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
from desist.runtime.daemon_thread import start_daemon_thread
from desist.runtime.fork_hooks import register_at_fork

__all__ = ["IDLE", "MAX_WORKERS", "ProcessPool", "pool"]

log = logging.getLogger("desist.cancel")

#: How many workers may be alive and not ending; further calls wait for one.
MAX_WORKERS = max(4, os.cpu_count() or 1)
#: Seconds after which an idle worker is ended.
IDLE = 30.0
#: Seconds until a spare worker is started: until then the processor belongs to the call.
SPARE_DELAY = 0.03
#: Seconds that a worker without a call may take to end before it is killed.
LEAVING = 1.0
#: Size limit of the message with the modules that a spare worker imports in advance.
MOST_BYTES = 65536


@dataclass(slots=True, eq=False)
class _Waiter:
    """A call that waits for a worker. `worker` or `error` is set under the lock of the pool, before `wake`."""

    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[WorkerProcess]
    worker: WorkerProcess | None = None
    error: OSError | None = None

    def resolve(self) -> None:
        """Resolve the future on its loop. If it was cancelled meanwhile, `take` releases the worker."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            assert self.worker is not None
            self.future.set_result(self.worker)

    def wake(self) -> bool:
        """Resolve the future from another thread; return False if its loop is closed."""
        try:
            self.loop.call_soon_threadsafe(self.resolve)
        except RuntimeError:
            return False
        return True


class ProcessPool:
    """The workers of this process.

    The condition's lock protects all fields. Calls take and release workers from their loops' threads; only the pool
    thread starts and reaps workers and changes `_alive`. A worker is idle, handed to one call, or leaving.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._idle: list[WorkerProcess] = []
        self._alive: dict[int, WorkerProcess] = {}  #: by pidfd; ending ones too
        self._waiters: collections.deque[_Waiter] = collections.deque()
        self._leaving: dict[WorkerProcess, float] = {}  #: ending workers, and when they are killed
        self._modules: set[str] = set()  #: the modules of the last call, which the next may need
        self._spare_due: float | None = None  #: when a spare worker is started
        self._closed = False
        self._thread: threading.Thread | None = None
        self._wake_fd = -1

    # -- for calls

    async def take(self, modules: set[str]) -> WorkerProcess:
        """Return a worker as soon as one is free. `modules` are the modules that calls like this one need.

        Raises:
            OSError: no worker can be started.
            RuntimeError: the interpreter is exiting.
        """
        with self._changed:
            if self._closed:
                raise RuntimeError("the interpreter is exiting: no process is started for a call")
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
            if waiter.worker is not None:  # given to this call at the moment of its cancel
                self.release(waiter.worker)
            raise

    def release(self, worker: WorkerProcess, *, fit: bool = True) -> None:
        """Return a worker to the pool; a worker that isn't `fit` for another call is ended. From any thread, once."""
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
        """Schedule the start of a worker in place of one that is being stopped. From any thread."""
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
        """Reset, in a forked child: the workers belong to the parent."""
        for worker in self._alive.values():
            worker.reset_after_fork()
        if self._wake_fd >= 0:
            os.close(self._wake_fd)
        self.__init__()  # type: ignore[misc]

    # -- with the lock held

    def _pop_idle(self) -> WorkerProcess | None:
        while self._idle:
            worker = self._idle.pop()
            if not worker.stopping:
                return worker
        return None

    def _offer(self, worker: WorkerProcess) -> None:
        """Give a worker to the call that has waited longest, or make it idle."""
        while self._waiters:
            waiter = self._waiters.popleft()
            waiter.worker = worker  # before the future is read: a call that is cancelled from here on releases it
            if not waiter.future.cancelled() and waiter.wake():
                return
            waiter.worker = None
        worker.idle_since = time.monotonic()
        self._idle.append(worker)

    def _want_spare(self) -> None:
        if self._spare_due is None:
            self._spare_due = time.monotonic() + SPARE_DELAY

    def _wake(self) -> None:
        if self._thread is None:
            self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._thread = start_daemon_thread(self._run, "desist-processes", self._wake_fd)
        os.eventfd_write(self._wake_fd, 1)

    # -- in the pool thread

    def _run(self, wake_fd: int) -> None:
        poll = select.poll()
        poll.register(wake_fd, select.POLLIN)
        while True:
            ready = poll.poll(self._timeout() * 1000)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(wake_fd)
            for fd, _ in ready:
                if fd != wake_fd:
                    poll.unregister(fd)
                    self._reap(fd)
            self._end_idle()
            for worker in self._start_needed_workers():
                poll.register(worker.pidfd, select.POLLIN)

    def _timeout(self) -> float:
        """Return the seconds until this thread has something to do."""
        with self._changed:
            deadlines = [worker.idle_since + IDLE for worker in self._idle] + list(self._leaving.values())
            if self._spare_due is not None:
                deadlines.append(self._spare_due)
        return max(0.0, min(deadlines, default=time.monotonic() + 3600.0) - time.monotonic()) + 0.001

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
                self._leaving[worker] = now + LEAVING  # killed again if it is still there then
        for worker in old:
            worker.close_after_call()
        for worker in late:
            worker.kill()

    def _start_needed_workers(self) -> list[WorkerProcess]:
        """Start workers for the calls that wait, and a spare one."""
        started: list[WorkerProcess] = []
        while True:
            with self._changed:
                if self._closed or not self._has_capacity() or not (self._waiters or self._spare_is_due()):
                    return started
            try:
                worker = WorkerProcess()
            except OSError as error:
                log.warning("no worker process could be started: %s", error)
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
        """Whether a spare worker is to be started now. Resets the schedule."""
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
        body = pickle.dumps((settings, {MARK: worker.mark.value}, sorted(self._modules)), protocol=5)
        if self._modules and len(body) < MOST_BYTES:
            worker.settings = settings
            worker.socket.send(frame(b"P", body))


#: The pool of this process.
pool = ProcessPool()


def _leave() -> None:
    drain()  # exit handlers run in reverse order, and the runs must end before their workers: a second drain is cheap
    pool.close()


atexit.register(_leave)
register_at_fork(after_in_child=pool.reset_after_fork)
