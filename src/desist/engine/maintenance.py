"""The maintenance thread of a worker: heartbeat, dispatch of queued runs, requeue of orphans.

Every worker does this. All steps are safe when several workers do them at once and when they are repeated: each is one
transaction in our tables, and sending a run twice has no effect. Started and stopped by `Worker`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from desist.db.process.identity import describe_process, is_dead, this_process
from desist.db.process.lease_observer import leases
from desist.db.store.shared_table_store import SharedTableStore
from desist.engine.dbos_dispatcher import DbosDispatcher
from desist.exceptions import StoreError

if TYPE_CHECKING:
    from desist.db.tables.base import WorkerRow
    from desist.engine.liveness_lock import LivenessLock

__all__ = ["MaintenanceThread"]

log = logging.getLogger("desist.engine")

#: Seconds between two dispatches, two checks for orphans, and two checks for forgotten runs.
DISPATCH, SWEEP, CHECK = 0.1, 0.5, 5.0
#: Seconds of a worker's lease, and between two heartbeats.
LEASE, HEARTBEAT = 15.0, 2.0
#: The maximum of runs in one dispatch, and in one check.
BATCH = 100
#: Seconds after which a failed task is tried again.
RETRY = 1.0


class MaintenanceThread:
    """Maintains the queue of one database.

    Parameters:
        store: the database.
        dispatch: sends runs to workers.
        workflows: the ids of the worker's workflows.
        liveness_lock: shows the end of a process on another machine at once; None: its lease decides.
    """

    def __init__(
        self,
        store: SharedTableStore,
        dispatch: DbosDispatcher,
        workflows: Sequence[str],
        liveness_lock: LivenessLock | None,
    ) -> None:
        self._store, self._dispatch = store, dispatch
        self._workflows, self._liveness_lock = list(workflows), liveness_lock
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._intervals = {
            self._heartbeat: HEARTBEAT,
            self._dispatch_queued: DISPATCH,
            self._requeue_orphans: SWEEP,
            self._resend_forgotten: CHECK,
        }
        self._next_time = dict.fromkeys(self._intervals, 0.0)
        self._unknown: set[str] = set()  #: workflows without a worker that a warning was logged for
        self._failing = False

    # -- the thread

    def register_worker(self) -> None:
        """Register this worker in the database, before the thread starts.

        Raises:
            StoreError: the database can't be used.
        """
        if self._liveness_lock is not None:
            self._liveness_lock.hold(this_process())
        self._store.sign_on(self._workflows, LEASE)

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="desist-maintenance", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and sign this worker off."""
        self._end.set()
        if self._thread is not None:
            self._thread.join(10.0)
        try:
            self._store.sign_off(this_process(), dead=False)
        except StoreError as error:  # its lease will expire
            log.warning("cannot sign the worker off: %s", error)
        if self._liveness_lock is not None:
            self._liveness_lock.close()

    def _run(self) -> None:
        while not self._end.is_set():
            for task, interval in self._intervals.items():
                if time.monotonic() >= self._next_time[task] and not self._end.is_set():
                    self._next_time[task] = time.monotonic() + (
                        interval if self._succeeds(task) else max(interval, RETRY)
                    )
            self._end.wait(max(0.0, min(self._next_time.values()) - time.monotonic()))

    def _succeeds(self, task: object) -> bool:
        """Do a task. Return False if it failed: it is tried again, and only the first failure in a row is a warning."""
        try:
            task()  # type: ignore[operator]
        except Exception as error:
            level = logging.DEBUG if self._failing or self._end.is_set() else logging.WARNING
            log.log(level, "maintenance of the queue of %s failed, and will be tried again: %s", self._name, error)
            self._failing = True
            return False
        self._failing = False
        return True

    @property
    def _name(self) -> str:
        return self._store.backend.name

    # -- the tasks

    def _heartbeat(self) -> None:
        self._store.sign_on(self._workflows, LEASE)
        if self._liveness_lock is not None:
            self._liveness_lock.hold(this_process())

    def _dispatch_queued(self) -> None:
        """Send queued runs to DBOS. `_resend_forgotten` repairs a crash between the two statements."""
        rows = self._store.send(self._workflows, BATCH)
        for row in rows:
            self._dispatch.send(row.run_id, row.owner_id, row.sent)
        if len(rows) == BATCH:
            self._next_time[self._dispatch_queued] = 0.0

    def _requeue_orphans(self) -> None:
        """Find dead workers. Requeue their runs, and mark those that may not be resumed as ended."""
        others, now = self._store.other_workers()
        for worker in others:
            if self._is_dead(worker, now):
                log.warning("worker %s is gone: its runs are requeued", describe_process(worker.process))
                self._store.sign_off(worker.process, dead=True)
                self._dispatch.recover(worker.process)
        self._store.end_lost_soon()

    def _is_dead(self, worker: WorkerRow, now: float) -> bool:
        if is_dead(worker.process) or leases.is_over(worker.process, worker.until, now):
            return True
        return self._liveness_lock is not None and self._liveness_lock.is_released(worker.process)

    def _resend_forgotten(self) -> None:
        """Send runs again whose worker died between a statement in our tables and one in DBOS's."""
        self._store.drop_ended()
        self._store.requeue_lost(set(self._workflows))
        sent = [row for row in self._store.sent_before(CHECK, BATCH) if row.owner_id in self._workflows]
        if sent:
            in_flight = self._dispatch.in_flight({row.run_id: row.sent for row in sent})
            self._store.send_again([row for row in sent if row.run_id not in in_flight])
        self._warn_unknown_workflows()

    def _warn_unknown_workflows(self) -> None:
        """Log a warning, once, for queued runs of workflows that no worker has."""
        unknown = [run for run in self._store.queued_runs() if run.workers == 0]
        for name in {run.workflow_id for run in unknown} - self._unknown:
            count = sum(run.workflow_id == name for run in unknown)
            log.warning("%d runs of workflow %r are queued, and no worker has this workflow: start one", count, name)
        self._unknown = {run.workflow_id for run in unknown}
