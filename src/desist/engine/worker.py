"""`Worker`: executes submitted runs, in a process of its own or inside a program.

Between `start` and `stop` the work is done in other threads: `WorkerThread` claims runs and maintains the queue, the
background loop executes the runs. `desist worker` calls `serve_worker` with a worker.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from desist.cancel.reason import Source
from desist.db.backends.sqlite import SqliteBackend
from desist.db.process.identity import this_process
from desist.db.store.shared_table_store import SharedTableStore
from desist.db.tables.base import LimitRow
from desist.engine.liveness_lock import LivenessLock
from desist.engine.run_executor import RunExecutor
from desist.engine.schedules import Schedules
from desist.engine.wakeup import DatagramWakeup, NotifyWakeup, Wakeup
from desist.engine.worker_thread import WorkerThread
from desist.exceptions import ConfigurationError
from desist.run.component.awaitable import awaitable
from desist.run.storage.store import Database, store_of
from desist.runtime.fork_hooks import register_at_fork
from desist.workflow.workflow import Workflow

if TYPE_CHECKING:
    from desist.run.execution.run import Run

__all__ = ["Worker"]

log = logging.getLogger("desist.engine")

#: Seconds that `stop` waits for cancelled runs to settle.
SETTLING = 10.0
#: Seconds for each of the last steps of `stop`.
CLOSING = 15.0


class Worker:
    """Executes submitted runs of some workflows, beside any number of other workers on the same database.

    A process can have one worker. `with Worker(...):` starts it, and stops it at the end of the block.

    Parameters:
        workflows: the workflows to execute. A workflow without a `db` gets this one.
        db: the database shared with other workers and with the programs that submit: `PostgresDb(...)`, or
            `SqliteDb(...)` on one machine.
        concurrency: the maximum of concurrent runs on this worker.
        limits: workflow id -> the maximum of concurrent runs on all workers, stored in the database when the worker
            starts. `db.set_limit` changes it while workers run.
        drain: seconds that live runs may continue after `stop` before they are handed over or cancelled.

    Raises:
        ConfigurationError: a value is invalid, or processes can't share the database.
    """

    def __init__(
        self,
        *,
        workflows: Sequence[Workflow],
        db: Database,
        concurrency: int = 10,
        limits: Mapping[str, int] | None = None,
        drain: float = 30.0,
    ) -> None:
        self._workflows = _checked(workflows, db)
        self._limits = _limits(limits or {}, self._workflows)
        if concurrency < 1:
            raise ConfigurationError(f"concurrency={concurrency} of a Worker must be 1 or more")
        if drain < 0:
            raise ConfigurationError(f"drain={drain} of a Worker must be 0 or more seconds")
        store = store_of(db, "a Worker")
        if not isinstance(store, SharedTableStore):
            raise ConfigurationError(
                "db= of a Worker must be a database that processes can share: PostgresDb(...) or SqliteDb(...)"
            )
        self._store, self._drain = store, drain
        self._executor = RunExecutor(store, self._workflows, concurrency, self._wake)
        self._thread: WorkerThread | None = None
        self._lock = threading.Lock()
        self._skip_drain = threading.Event()

    @property
    def live(self) -> int:
        """The number of live runs on this worker."""
        return len(self._executor.runs())

    def start(self) -> Worker:
        """Begin to claim runs. Returns at once.

        Raises:
            StoreError: the database can't be used, or has no connection left.
        """
        with self._lock:
            if self._thread is not None or self._executor.leaving:
                raise ConfigurationError("this Worker was already started: create a new one")
            _claim_process(self)
            lock, wakeup = _wakeup_of(self._store)
            schedules, names = Schedules(self._store, self._workflows), sorted(self._workflows)
            thread = WorkerThread(self._store, self._executor, names, schedules, wakeup, lock)
        try:
            for name, limit in self._limits.items():
                self._store.workers.change_limits(name, partial(_with_limit, limit))
            thread.register()
        except BaseException:
            _leave_process(self)
            wakeup.close()
            raise
        self._thread = thread
        thread.start()
        atexit.register(self._exit)  # runs before the exit hook that cancels all live runs
        log.info("worker %s serves %s", this_process(), ", ".join(sorted(self._workflows)))
        return self

    def skip_drain(self) -> None:
        """End the wait of a `stop` for live runs."""
        self._skip_drain.set()
        self._executor.wake()

    @property
    def describe(self) -> str:
        """The workflows and the database, as text."""
        return f"runs of {', '.join(sorted(self._workflows))} in {self._store.backend.name}"

    def stop(self, source: Source = Source.shutdown, text: str = "the worker is shutting down") -> None:
        """Claim no more runs, wait `drain` seconds for the live ones, then hand over or cancel the rest.

        Runs of workflows with `on_crash="resume"` are handed over: another worker resumes them at once, after the last
        finished step. Others are cancelled with source `shutdown`. Returns when all runs have settled.
        """
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        atexit.unregister(self._exit)
        self._executor.leave(SETTLING)
        self._executor.wait_ended(time.monotonic() + self._drain, self._skip_drain)
        for run in self._executor.runs():
            _hand_over_or_cancel(run, source, text)
        self._executor.wait_ended(time.monotonic() + SETTLING)
        # If the database is unavailable, the end of this process tells other workers.
        if ended := self._executor.take_news()[1]:
            self._store.queue.remove_ended_soon(ended)
        _within(CLOSING, thread.stop)
        _leave_process(self)
        log.info("worker %s has stopped", this_process())

    def _wake(self) -> None:
        thread = self._thread
        if thread is not None:
            thread.wake()

    def _exit(self) -> None:
        """Stop at the exit of the interpreter."""
        self.skip_drain()
        self.stop(Source.shutdown, "the interpreter is ending")

    astart, astop = awaitable(start), awaitable(stop)

    def __enter__(self) -> Worker:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    async def __aenter__(self) -> Worker:
        return await self.astart()

    async def __aexit__(self, *error: object) -> None:
        await self.astop()


def _within(seconds: float, work: Callable[[], None]) -> None:
    """Do one step of the shutdown in a thread, and wait for `seconds` at most."""

    def attempt() -> None:
        try:
            work()
        except Exception as error:
            log.warning("a step of the worker's shutdown failed: %s", error)

    thread = threading.Thread(target=attempt, name="desist-worker-close", daemon=True)
    thread.start()
    thread.join(seconds)


def _hand_over_or_cancel(run: Run, source: Source, text: str) -> None:
    if getattr(run.body, "resumable", False):
        run.ownership.hand_over(f"{text}: another worker resumes this run")
    else:
        run.stop(source, text)


def _checked(workflows: Sequence[Workflow], db: Any) -> dict[str, Workflow]:
    """Return the workflows by id, each with this database."""
    known: dict[str, Workflow] = {}
    for workflow in workflows:
        if not isinstance(workflow, Workflow):
            raise ConfigurationError(f"workflows= of a Worker takes Workflow objects, not {workflow!r:.80}")
        if workflow.id in known:
            raise ConfigurationError(
                f"two workflows of a Worker have the id {workflow.id!r}: give one of them another id="
            )
        if workflow.db is None:
            workflow.db = db
        elif workflow.store is not store_of(db, "a Worker"):
            raise ConfigurationError(f"workflow {workflow.id!r} has another db= than its Worker: use the same for both")
        workflow.check()
        known[workflow.id] = workflow
    if not known:
        raise ConfigurationError("a Worker needs workflows=[...]")
    return known


def _limits(limits: Mapping[str, int], workflows: Mapping[str, Workflow]) -> dict[str, int]:
    for name, limit in limits.items():
        if name not in workflows:
            raise ConfigurationError(
                f"limits= of a Worker has the unknown workflow id {name!r}: its workflows are {', '.join(workflows)}"
            )
        if limit < 1:
            raise ConfigurationError(f"limits={{{name!r}: {limit}}} of a Worker must be 1 or more")
    return dict(limits)


def _with_limit(limit: int, row: LimitRow) -> LimitRow:
    return replace(row, runs=limit)


def _wakeup_of(store: SharedTableStore) -> tuple[LivenessLock | None, Wakeup]:
    """Return the lock that shows the end of a process on another machine, if there is one, and the notifications."""
    backend: Any = store.backend
    if isinstance(backend, SqliteBackend):
        return None, DatagramWakeup()
    lock = None if backend.target.is_pooled else LivenessLock(backend.target)
    return lock, NotifyWakeup(lock, this_process())


def _claim_process(worker: Worker) -> None:
    """Make a worker that of this process.

    Raises:
        ConfigurationError: this process has another one.
    """
    global _working
    with _lock:
        if _working is not None:
            raise ConfigurationError("this process already has a worker: pass all workflows to that one")
        _working = worker


def _leave_process(worker: Worker) -> None:
    global _working
    with _lock:
        if _working is worker:
            _working = None


_lock = threading.Lock()
_working: Worker | None = None  #: the worker of this process


def _reset_after_fork() -> None:
    global _lock, _working
    _lock, _working = threading.Lock(), None


register_at_fork(after_in_child=_reset_after_fork)
