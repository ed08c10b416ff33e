"""The thread of a worker: claims runs, registers the worker, requeues the runs of dead workers, submits schedules.

Every worker does this. All steps are safe when several workers do them at once and when they are repeated: each is one
transaction. Started and stopped by `Worker`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from desist.db.process.identity import describe_process, is_dead, this_process
from desist.db.process.lease_observer import leases
from desist.db.store.shared_table_store import SharedTableStore
from desist.db.store.worker_part import ClaimedBatch
from desist.engine.run_executor import RunExecutor
from desist.engine.schedules import Schedules
from desist.engine.wakeup import Wakeup
from desist.exceptions import StoreError

if TYPE_CHECKING:
    from desist.db.tables.base import WorkerRow
    from desist.engine.liveness_lock import LivenessLock

__all__ = ["WorkerThread"]

log = logging.getLogger("desist.engine")

#: Seconds between two looks for runs by a worker that is notified of them, and by one that can't be.
NOTIFIED, UNNOTIFIED = 1.0, 0.25
#: The minimum of seconds between two claims: runs that end together make room for one claim.
TICK = 0.004
#: Seconds of a worker's lease, and between two heartbeats.
LEASE, HEARTBEAT = 15.0, 2.0
#: Seconds between two checks for dead workers, and between two for runs that nobody has.
SWEEP, CHECK = 1.0, 5.0
#: Seconds after which a failed task is tried again.
RETRY = 1.0


class WorkerThread:
    """Works on the queue of one database.

    Parameters:
        store: the database.
        executor: executes the claimed runs.
        workflows: the ids of the worker's workflows.
        schedules: submits runs periodically.
        wakeup: notifies of new runs.
        lock: shows the end of a process on another machine at once; None: its lease decides.
    """

    def __init__(
        self,
        store: SharedTableStore,
        executor: RunExecutor,
        workflows: Sequence[str],
        schedules: Schedules,
        wakeup: Wakeup,
        lock: LivenessLock | None,
    ) -> None:
        self._store, self._executor, self._workflows = store, executor, list(workflows)
        self._schedules, self._wakeup, self._lock = schedules, wakeup, lock
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._since = time.time()
        self._tasks: dict[Callable[[], None], float] = {
            self._heartbeat: HEARTBEAT,
            self._claim: NOTIFIED if wakeup.address else UNNOTIFIED,
            self._requeue_orphans: SWEEP,
            self._submit_schedules: SWEEP,
            self._check: CHECK,
        }
        self._next_time = dict.fromkeys(self._tasks, 0.0)
        self._hungry = False  #: the database knows that this worker has nothing to do
        self._claimed_at = self._due_at = 0.0  #: of the last claim, and of the next scheduled run
        self._turn = 0  #: the workflow whose runs are claimed first
        self._unknown: set[str] = set()  #: workflows without a worker that a warning was logged for
        self._failing = False

    # -- the thread

    def register(self) -> None:
        """Register this worker in the database, before the thread starts.

        Raises:
            StoreError: the database can't be used.
        """
        self._wakeup.open()
        self._heartbeat()

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="desist-worker", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Claim runs soon: a place is free. From any thread."""
        self._wakeup.wake()

    def stop(self) -> None:
        """Stop the thread and sign this worker off."""
        self._end.set()
        self._wakeup.wake()
        if self._thread is not None:
            self._thread.join(10.0)
        try:
            self._store.workers.sign_off(this_process(), dead=False)
        except StoreError as error:  # its lease will expire
            log.warning("cannot sign the worker off: %s", error)
        if self._thread is None or not self._thread.is_alive():
            self._wakeup.close()

    def _run(self) -> None:
        while not self._end.is_set():
            now = time.monotonic()
            for task, interval in self._tasks.items():
                if now >= self._next_time[task] and not self._end.is_set():
                    self._next_time[task] = time.monotonic() + interval
                    if not self._succeeds(task):
                        self._next_time[task] = time.monotonic() + max(interval, RETRY)
            notified = self._wakeup.wait(min(self._next_time.values()) - time.monotonic())
            if notified or self._executor.has_news:
                self._next_time[self._claim] = min(self._next_time[self._claim], self._claimed_at + TICK)

    def _succeeds(self, task: Callable[[], None]) -> bool:
        """Do a task. Return False if it failed: it is tried again, and only the first failure in a row is a warning."""
        try:
            task()
        except Exception as error:
            level = logging.DEBUG if self._failing or self._end.is_set() else logging.WARNING
            log.log(level, "a worker of %s failed, and will try again: %s", self._store.backend.name, error)
            self._failing = True
            return False
        self._failing = False
        return True

    # -- the tasks

    def _heartbeat(self) -> None:
        if not self._executor.leaving:
            self._wakeup.open()
        places = self._executor.concurrency
        self._store.workers.sign_on(self._workflows, LEASE, self._wakeup.address, places, self._since)

    def _claim(self) -> None:
        """Claim as many runs as there are places; then be notified of the next one."""
        places, ended = self._executor.take_news()
        try:
            self._claim_for(places, ended)
        finally:
            self._executor.end_claim()

    def _claim_for(self, places: int, ended: list[str]) -> None:
        now = self._claimed_at = time.monotonic()
        if not places and not ended:
            return
        turn = self._turn = (self._turn + 1) % len(self._workflows)
        owners = self._workflows[turn:] + self._workflows[:turn]
        try:
            found = self._store.workers.claim_batch(owners, places, ended, due=now >= self._due_at)
        except StoreError:
            self._executor.add_ended(ended)
            raise
        self._begin(found, now)
        places -= len(found.runs)
        if places and not self._executor.leaving and not self._hungry:
            found = self._store.workers.claim_or_wait(owners, places)
            self._hungry = True
            self._begin(found, now)
            places -= len(found.runs)
        if self._hungry and not places:
            self._hungry = False
            self._store.workers.set_sated()

    def _begin(self, found: ClaimedBatch, now: float) -> None:
        self._due_at = now + (NOTIFIED if found.wait is None else found.wait)
        self._next_time[self._claim] = min(self._next_time[self._claim], self._due_at)
        self._executor.begin(found.runs)

    def _requeue_orphans(self) -> None:
        """Find dead workers. Requeue their runs, and mark those that may not be resumed as ended."""
        others, now = self._store.workers.other_workers()
        dead = [worker for worker in others if self._is_dead(worker, now)]
        for worker in dead:
            log.warning("worker %s is gone: its runs are requeued", describe_process(worker.process))
            self._store.workers.sign_off(worker.process, dead=True)
        if dead:
            self._check()

    def _is_dead(self, worker: WorkerRow, now: float) -> bool:
        if is_dead(worker.process) or leases.is_over(worker.process, worker.until, now):
            return True
        return self._lock is not None and self._lock.is_released(worker.process)

    def _check(self) -> None:
        """Requeue or end the runs of dead processes, and drop what has ended from the queue."""
        self._store.end_lost_soon()
        self._store.workers.requeue_lost(set(self._workflows))
        self._store.workers.remove_ended()
        self._warn_unknown_workflows()

    def _submit_schedules(self) -> None:
        self._schedules.submit_due()

    def _warn_unknown_workflows(self) -> None:
        """Log a warning, once, for queued runs of workflows that no worker has."""
        unknown = {one.workflow_id: one.queued for one in self._store.workers.queue_statistics() if not one.workers}
        for name, count in unknown.items():
            if count and name not in self._unknown:
                log.warning(
                    "%d runs of workflow %r are queued, and no worker has this workflow: start one", count, name
                )
        self._unknown = {name for name, count in unknown.items() if count}
