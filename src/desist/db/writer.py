"""The only thread that writes into a database: callers put jobs into a queue and go on.

Jobs are done in the order in which they were put, many in one transaction. The writer knows neither SQL nor runs: a job
is a function of the tables that the backend passes, or an item of a `Batch`, which does many such items together. A job
may wait some milliseconds for others to share the transaction; each job says how long. The thread starts with the first
job, ends after some idle seconds, finishes the queue when the interpreter exits, and starts anew in a forked child,
which drops its parent's jobs.

Threads: `put` and `put_droppable` are called by any thread, also on event loops, so they never wait for the disk;
`flush` and `close` wait. `_run` is the writer's thread, `_check_deadlines` runs on the timer thread. `_changed` guards
the queues and is never held while the backend works, or while a future is settled by the thread: callbacks of futures
may call `put`. A batch that fails is repeated job by job, so every job must be safe to do twice.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from desist.exceptions import StoreError
from desist.runtime.background_loop import register_at_exit
from desist.runtime.daemon_thread import start_daemon_thread
from desist.runtime.fork_hooks import register_at_fork
from desist.runtime.timer_thread import timers

__all__ = ["Backend", "BackendBusy", "Batch", "Failed", "WriteJob", "Writer", "perform"]

log = logging.getLogger("desist.db")

#: Seconds for which droppable jobs wait for others to share the transaction.
LINGER = 0.01
#: The maximum of jobs in one transaction, of those in one that locks rows on a server, and in the queue. Droppable jobs
#: are refused when the queue is half full, so that the starts and ends of runs have the other half.
BATCH, APART, LIMIT = 500, 100, 50_000
#: Seconds without a job after which the thread ends; the next job starts another.
IDLE = 5.0
#: Seconds between two attempts while another process writes.
PAUSE = 0.05

T = TypeVar("T")


class BackendBusy(Exception):
    """The backend can't write now, because another process does. Trying again helps."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The result of one item of a batch, whose other items are done."""

    error: Exception


class Batch(Protocol):
    """Does many jobs of a kind together."""

    def write(self, tables: Any, items: Sequence[Any]) -> list[Any]:
        """Do the items of one transaction; return the result of each, or `Failed`. In the writer's thread."""


class WriteJob:
    """A function to be called with the tables, within a transaction; or an item of a batch."""

    __slots__ = ("batch", "due", "durable", "future", "last", "work")

    def __init__(self, work: Any, *, durable: bool, last: bool = False, batch: Batch | None = None) -> None:
        self.work, self.batch = work, batch
        self.last = last  #: done after the others of its transaction, whose failure must not undo its decision
        self.durable = durable  #: on the disk when it is done, not only in the memory of the system; has a future
        self.future: Future[Any] | None = Future() if durable else None
        self.due = 0.0  #: when its future fails; seconds of `time.monotonic`


def perform(jobs: Sequence[WriteJob], tables: Any) -> list[Any]:
    """Do the jobs of one transaction, those of one batch that follow each other together. For backends."""
    results: list[Any] = []
    for batch, some in itertools.groupby(jobs, key=lambda job: job.batch):
        works = [job.work for job in some]
        results += [work(tables) for work in works] if batch is None else batch.write(tables, works)
    return results


class Backend(Protocol):
    """The storage, as the writer's thread uses it."""

    name: str  #: for messages
    #: Whether a durable job that is not of a batch has a transaction of its own, so that its locks are few and short.
    apart: bool

    def write(self, jobs: Sequence[WriteJob]) -> list[Any]:
        """Do all jobs in one transaction, or none; return the result of each. In the writer's thread.

        Raises:
            BackendBusy: another process is writing.
            StoreError: the jobs can't be written.
        """

    def detach(self) -> Callable[[], None]:
        """Forget what writing needs, and return a function that closes it. Called as the writer's thread ends."""


class Writer:
    """A queue of jobs and the thread that does them.

    Parameters:
        backend: the storage.
        timeout: seconds after which the future of a job that is not done fails. The job is still tried.
    """

    def __init__(self, backend: Backend, timeout: float) -> None:
        self._backend, self._timeout = backend, timeout
        self._reset()
        _writers.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._jobs: deque[WriteJob] = deque()
        self._open: deque[WriteJob] = deque()  #: durable jobs whose futures are not settled, the oldest first
        self._take_at = math.inf  #: when the thread takes the jobs: as soon as one of them has waited long enough
        self._watched = self._closing = self._failing = self._writing = False
        self._thread: threading.Thread | None = None
        self._ends_at = 0.0  #: when a closing writer gives up, in seconds of `time.monotonic`

    # -- for any thread

    def put(self, work: Callable[[Any], T], *, last: bool = False) -> Future[T]:
        """Do `work(tables)` and make it durable. The future ends within the timeout.

        Parameters:
            last: do the job after all others of its transaction.
        """
        return self._put(WriteJob(work, durable=True, last=last), 0.0)

    def put_item(self, batch: Batch, item: Any, *, last: bool = False, patience: float = 0.0) -> Future[Any]:
        """Do `batch.write(tables, items)` with this item and others, and make it durable. As `put`.

        Parameters:
            patience: seconds for which the job may wait for others to share the transaction.
        """
        return self._put(WriteJob(item, durable=True, last=last, batch=batch), patience)

    def _put(self, job: WriteJob, patience: float) -> Future[Any]:
        assert job.future is not None
        with self._lock:
            if self._closing:
                job.future.set_exception(StoreError(f"{self._backend.name} is closed"))
            elif len(self._jobs) >= LIMIT:
                job.future.set_exception(StoreError(f"{LIMIT} writes already wait for {self._backend.name}"))
            else:
                job.due = time.monotonic() + self._timeout
                self._add(job, patience)
                self._open.append(job)
                self._watch()
        return job.future

    def put_droppable(self, work: Callable[[Any], Any], patience: float | None = None) -> bool:
        """Do `work(tables)` soon, without a result. Return False, and drop the job, if the queue is full.

        Parameters:
            patience: seconds for which the job waits for others to share the transaction; None: for the usual time.
        """
        with self._lock:
            if self._closing or len(self._jobs) >= LIMIT // 2:
                return False
            self._add(WriteJob(work, durable=False), LINGER if patience is None else patience)
        return True

    def _add(self, job: WriteJob, patience: float) -> None:
        """Append a job, and start the thread, or wake it if it would take this job too late. With the lock held."""
        if self._thread is None:
            self._thread = start_daemon_thread(
                self._run, "desist-db"
            )  # first: where no thread can start, no job is left
        self._jobs.append(job)
        take_at = time.monotonic() + patience
        if take_at < self._take_at:
            self._take_at = take_at
            self._changed.notify_all()

    @property
    def idle(self) -> bool:
        """Whether no job waits and none is being tried: nothing that failed can still succeed by itself."""
        with self._lock:
            return not self._jobs and not self._writing

    @property
    def closing(self) -> bool:
        """Whether the writer takes no more jobs."""
        return self._closing

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all jobs that were put are done, for `timeout` seconds at most; return whether they are."""
        with self._lock:
            if self._thread is None or self._thread is threading.current_thread():
                return not self._jobs
        try:
            self.put(lambda backend: None).result(timeout)
        except (StoreError, TimeoutError):
            return False
        return True

    def close(self, timeout: float) -> None:
        """Take no more jobs, do those that wait, for `timeout` seconds at most, and end the thread. Idempotent."""
        with self._lock:
            self._closing = True
            self._ends_at = time.monotonic() + timeout
            thread = self._thread
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout + PAUSE)

    # -- deadlines

    def _watch(self) -> None:
        """Set a timer for the deadline of the oldest job: one timer, however many jobs. With the lock held."""
        if not self._watched and self._open:
            self._watched = True
            timers.call_at(self._open[0].due, self._check_deadlines)

    def _check_deadlines(self) -> None:
        late: list[WriteJob] = []
        with self._lock:
            self._watched = False
            while self._open and (self._open[0].due <= time.monotonic() or _is_done(self._open[0])):
                late.append(self._open.popleft())
            self._watch()
        words = f"{self._backend.name} did not store this within {self._timeout:g} s; it is still being tried"
        for job in late:  # without the lock: callbacks may call `put`
            _settle(job, error=StoreError(words))

    # -- the thread

    def _run(self) -> None:
        while True:
            with self._lock:
                idle = False
                while not self._jobs and not self._closing and not idle:
                    idle = not self._changed.wait(IDLE)
                if not self._jobs:
                    self._thread = None  # with the lock held: a `put` from now on starts another thread,
                    close = self._backend.detach()  # which must not find this one's connection
                    break
                while not self._closing and (pause := self._take_at - time.monotonic()) > 0:
                    self._changed.wait(pause)
                self._writing = True
                batch = [self._jobs.popleft() for _ in range(min(BATCH, len(self._jobs)))]
                self._take_at = 0.0 if self._jobs else math.inf
            for together in self._transactions(batch):
                self._write(together)
            with self._lock:
                self._writing = False
                while self._open and _is_done(self._open[0]):
                    self._open.popleft()
        close()

    def _transactions(self, batch: list[WriteJob]) -> list[list[WriteJob]]:
        """Return the jobs by transaction, in the order in which they are done."""
        groups: list[list[WriteJob]] = [[]]
        for job in batch:
            alone = self._backend.apart and job.durable and job.batch is None
            if groups[-1] and (alone or (self._backend.apart and len(groups[-1]) >= APART)):
                groups.append([])
            groups[-1].append(job)
            if alone:
                groups.append([])
        return [sorted(group, key=lambda job: job.last) for group in groups if group]

    def _write(self, batch: list[WriteJob]) -> None:
        """Do a batch; if it fails as a whole, do its jobs one by one, so that a bad job harms no other."""
        try:
            results = self._try(batch)
        except Exception as error:
            if len(batch) > 1:
                for job in batch:
                    self._write([job])
                return
            self._failed(batch[0], error)
            return
        self._failing = False
        for job, result in zip(batch, results, strict=True):
            if isinstance(result, Failed):
                self._failed(job, result.error)
            else:
                _settle(job, result)

    def _try(self, batch: list[WriteJob]) -> list[Any]:
        logged = False
        while True:
            try:
                return self._backend.write(batch)
            except BackendBusy as busy:
                if not logged:
                    log.warning("%s can't be written now, and is tried again: %s", self._backend.name, busy)
                logged = True
                with self._lock:
                    if self._closing and time.monotonic() > self._ends_at:
                        raise
                    self._changed.wait(PAUSE)

    def _failed(self, job: WriteJob, error: Exception) -> None:
        if job.future is None:
            if not self._failing:  # logged once, until a write succeeds
                log.error("checkpoints and events of runs can't be written to %s: %s", self._backend.name, error)
            self._failing = True
            return
        known = error if isinstance(error, StoreError) else StoreError(f"{self._backend.name}: {error}")
        _settle(job, error=known)


def _is_done(job: WriteJob) -> bool:
    return job.future is None or job.future.done()


def _settle(job: WriteJob, result: Any = None, error: Exception | None = None) -> None:
    """Settle the future of a job. The second call has no effect: the thread and the timer may both call."""
    if job.future is None or job.future.done():
        return
    try:
        if error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)
    except InvalidStateError:
        pass


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def _flush_all() -> None:
    for writer in list(_writers):
        writer.close(2.0)


def _reset_after_fork() -> None:
    for writer in list(_writers):
        writer._reset()


register_at_exit(_flush_all)
register_at_fork(after_in_child=_reset_after_fork)
