"""The one thread that writes into a database. Whoever has something to write leaves it here and goes on.

Jobs are done in the order in which they came, many in one transaction. It knows no SQL and no runs: a job is a
function of what the backend gives it. It doesn't start before the first job, ends what is left when the interpreter
ends, and starts anew in a forked child, where the parent's jobs aren't done a second time.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any, Protocol, TypeVar

from desist.exceptions import StoreError
from desist.runtime.background_loop import register_at_exit
from desist.runtime.daemon_thread import start_daemon
from desist.runtime.timer_thread import reaper

__all__ = ["Backend", "BackendBusy", "WriteJob", "Writer"]

log = logging.getLogger("desist.db")

#: Seconds that parts may wait for company, jobs in one transaction at most, and jobs that may wait at most. Parts are
#: refused when half of these wait: the starts and ends of runs have the other half.
LINGER, BATCH, LIMIT = 0.01, 500, 50_000
#: Seconds without a job after which the thread ends; the next job starts another.
IDLE = 5.0
#: Seconds between two tries while another process writes.
PAUSE = 0.05


T = TypeVar("T")


class BackendBusy(Exception):
    """The backend can't write now, because another process does. Trying again helps."""


class WriteJob:
    """Something to be written."""

    __slots__ = ("due", "durable", "future", "last", "work")

    def __init__(self, work: Callable[[Any], Any], *, durable: bool, last: bool = False) -> None:
        self.work = work
        self.last = last  #: comes after the others of its transaction, whose failure must not undo what it decides
        self.durable = durable  #: on the disk, not only in the system's memory, when it is done; and somebody waits
        self.future: Future[Any] | None = Future() if durable else None
        self.due = 0.0


class Backend(Protocol):
    """Where a writer writes."""

    name: str  #: for messages: the file
    apart: bool  #: a job that somebody waits for is a transaction of its own: its locks are short, and few

    def write(self, jobs: Sequence[WriteJob]) -> list[Any]:
        """Do all jobs in one transaction, or none; return what each returned. In the writer's thread.

        Raises:
            Busy: another process is writing.
        """

    def detach(self) -> Callable[[], None]:
        """Part with what writing needs, at once, and return how to let go of it. When the writer's thread ends."""


class Writer:
    """A queue and its thread.

    Parameters:
        backend: where to write.
        patience: seconds after which whoever waits is told that the job isn't done. It is still tried.
    """

    def __init__(self, backend: Backend, timeout: float) -> None:
        self._backend, self._patience = backend, timeout
        self._reset()
        _writers.add(self)

    def _reset(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._jobs: deque[WriteJob] = deque()
        self._open: deque[WriteJob] = deque()  #: those that somebody waits for, the oldest first
        self._urgent = 0
        self._watched = self._closing = self._failing = self._writing = False
        self._thread: threading.Thread | None = None
        self._ends_at = 0.0  #: when a closing writer gives up, in seconds of `time.monotonic`

    # -- for those who write

    def put(self, work: Callable[[Any], T], *, last: bool = False) -> Future[T]:
        """Do `work(backend)` and make it durable. The future ends within the writer's patience.

        Parameters:
            last: after all other jobs of the same transaction.
        """
        job = WriteJob(work, durable=True, last=last)
        assert job.future is not None
        with self._changed:
            if self._closing:
                job.future.set_exception(StoreError(f"{self._backend.name} is closed"))
            elif len(self._jobs) >= LIMIT:
                job.future.set_exception(StoreError(f"{LIMIT} writes wait for {self._backend.name} already"))
            else:
                job.due = time.monotonic() + self._patience
                self._add(job)
                self._open.append(job)
                self._urgent += 1
                self._watch()
        return job.future

    def put_droppable(self, work: Callable[[Any], Any]) -> bool:
        """Do `work(backend)` some time soon; nobody hears of it. Return False if there is no room."""
        with self._changed:
            if self._closing or len(self._jobs) >= LIMIT // 2:
                return False
            self._add(WriteJob(work, durable=False))
        return True

    def _add(self, job: WriteJob) -> None:
        if self._thread is None:
            self._thread = start_daemon(self._run, "desist-db")  # first: where no thread can start, no job is left
        self._jobs.append(job)
        if job.durable or len(self._jobs) == 1:
            self._changed.notify_all()

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is being tried: what failed doesn't go through any more by itself."""
        with self._changed:
            return not self._jobs and not self._writing

    @property
    def closing(self) -> bool:
        """Whether it takes nothing more."""
        return self._closing

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything that was put is done, for at most `timeout` seconds; return whether it is."""
        with self._changed:
            if self._thread is None or self._thread is threading.current_thread():
                return not self._jobs
        try:
            self.put(lambda backend: None).result(timeout)
        except (StoreError, TimeoutError):
            return False
        return True

    def close(self, timeout: float) -> None:
        """Do what is left, for at most `timeout` seconds, and end the thread."""
        with self._changed:
            self._closing = True
            self._ends_at = time.monotonic() + timeout
            thread = self._thread
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout + PAUSE)

    # -- those who wait don't wait for ever

    def _watch(self) -> None:
        """Look again when the oldest job is due. One timer, however many jobs. With the lock held."""
        if not self._watched and self._open:
            self._watched = True
            reaper.call_at(self._open[0].due, self._check_deadlines)

    def _check_deadlines(self) -> None:
        late: list[WriteJob] = []
        with self._changed:
            self._watched = False
            while self._open and (self._open[0].due <= time.monotonic() or _is_done(self._open[0])):
                late.append(self._open.popleft())
            self._watch()
        words = f"{self._backend.name} didn't take it within {self._patience:g} s; it is still being tried"
        for job in late:
            _settle(job, error=StoreError(words))

    # -- the thread

    def _run(self) -> None:
        while True:
            with self._changed:
                idle = False
                while not self._jobs and not self._closing and not idle:
                    idle = not self._changed.wait(IDLE)
                if not self._jobs:
                    self._thread = None
                    let_go = self._backend.detach()
                    break
                if not self._urgent and not self._closing:
                    self._changed.wait(LINGER)
                self._writing = True
                batch = [self._jobs.popleft() for _ in range(min(BATCH, len(self._jobs)))]
                self._urgent -= sum(job.durable for job in batch)
            for together in self._transactions(batch):
                self._write(together)
            with self._changed:
                self._writing = False
                while self._open and _is_done(self._open[0]):
                    self._open.popleft()
        let_go()

    def _transactions(self, batch: list[WriteJob]) -> list[list[WriteJob]]:
        """Return the jobs by transaction, in the order in which they are done."""
        if not self._backend.apart:
            return [sorted(batch, key=lambda job: job.last)]
        groups: list[list[WriteJob]] = []
        for job in batch:
            if job.durable or not groups or groups[-1][0].durable:
                groups.append([])
            groups[-1].append(job)
        return groups

    def _write(self, batch: list[WriteJob]) -> None:
        """Do a batch; if it can't be done as a whole, its jobs one by one, so that a bad one harms no other."""
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
            _settle(job, result)

    def _try(self, batch: list[WriteJob]) -> list[Any]:
        told = False
        while True:
            try:
                return self._backend.write(batch)
            except BackendBusy as busy:
                if not told:
                    log.warning("%s can't be written now, and is tried again: %s", self._backend.name, busy)
                told = True
                with self._changed:
                    if self._closing and time.monotonic() > self._ends_at:
                        raise
                    self._changed.wait(PAUSE)

    def _failed(self, job: WriteJob, error: Exception) -> None:
        if job.future is None:
            if not self._failing:  # said once, until something succeeds
                log.error("what runs have done can't be written to %s: %s", self._backend.name, error)
            self._failing = True
            return
        known = error if isinstance(error, StoreError) else StoreError(f"{self._backend.name}: {error}")
        _settle(job, error=known)


def _is_done(job: WriteJob) -> bool:
    return job.future is None or job.future.done()


def _settle(job: WriteJob, result: Any = None, error: Exception | None = None) -> None:
    """Tell whoever waits, unless that was done: the thread and the timer may both want to."""
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
os.register_at_fork(after_in_child=_reset_after_fork)
