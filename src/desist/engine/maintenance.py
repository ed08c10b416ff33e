"""The thread of a worker that looks after the queue: it says that this worker lives, sends what waits, finds the dead.

What it does can be done by any worker, by several at once, and again: every step is one transaction in our tables, and
sending a run twice is sending it once. Started and ended by `Worker`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from desist.db.process.identity import describe_process, is_dead, this_process
from desist.db.store.shared_table_store import SharedTableStore
from desist.engine.dbos_dispatcher import DbosDispatcher
from desist.exceptions import StoreError

if TYPE_CHECKING:
    from desist.db.tables.sql_queue import WorkerRow
    from desist.engine.liveness_lock import LivenessLock

__all__ = ["MaintenanceThread"]

log = logging.getLogger("desist.engine")

#: Seconds between two looks for something to send, for the dead, and for what was forgotten.
FEED, SWEEP, AUDIT = 0.1, 0.5, 5.0
#: Seconds for which a worker is believed to live, and between two times that it says so.
LEASE, BEAT = 15.0, 2.0
#: How many runs are sent in one go, and looked at in one audit.
SOME = 100
#: Seconds after which a look that failed is tried again.
RETRY = 1.0


class MaintenanceThread:
    """Looks after the queue of one database on behalf of a worker.

    Parameters:
        store: the database.
        dispatch: where runs are sent.
        workflows: ids of those that the worker has.
        lifeline: how the end of a process on another machine is seen at once; None: by its lease.
    """

    def __init__(
        self,
        store: SharedTableStore,
        dispatch: DbosDispatcher,
        workflows: Sequence[str],
        liveness_lock: LivenessLock | None,
    ) -> None:
        self._store, self._dispatch, self._workflows, self._lifeline = store, dispatch, list(workflows), liveness_lock
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._due = dict.fromkeys(
            (self._heartbeat, self._dispatch_queued, self._requeue_orphans, self._resend_forgotten), 0.0
        )
        self._unknown: set[str] = set()  #: workflows that nobody has, as was said
        self._failing = False

    # -- the thread

    def register_worker(self) -> None:
        """Say that this worker is there.

        Raises:
            StoreError: the database can't be used.
        """
        if self._lifeline is not None:
            self._lifeline.hold(this_process())
        self._store.sign_on(self._workflows, LEASE)

    def start(self) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._run, name="desist-keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more, and say that this worker has left."""
        self._end.set()
        if self._thread is not None:
            self._thread.join(10.0)
        try:
            self._store.sign_off(this_process(), dead=False)
        except StoreError as error:  # others find out by its lease
            log.warning("the worker can't be signed off: %s", error)
        if self._lifeline is not None:
            self._lifeline.close()

    def _run(self) -> None:
        every = {
            self._heartbeat: BEAT,
            self._dispatch_queued: FEED,
            self._requeue_orphans: SWEEP,
            self._resend_forgotten: AUDIT,
        }
        while not self._end.is_set():
            for work, pause in every.items():
                if time.monotonic() >= self._due[work] and not self._end.is_set():
                    self._due[work] = time.monotonic() + (pause if self._tried(work) else max(pause, RETRY))
            self._end.wait(max(0.0, min(self._due.values()) - time.monotonic()))

    def _tried(self, work: object) -> bool:
        """Do one of the things; return whether that went well. What fails is tried again, and said once."""
        try:
            work()  # type: ignore[operator]
        except Exception as error:
            level = logging.DEBUG if self._failing or self._end.is_set() else logging.WARNING
            log.log(level, "the queue of %s can't be looked after, and is tried again: %s", self._name, error)
            self._failing = True
            return False
        self._failing = False
        return True

    @property
    def _name(self) -> str:
        return self._store.backend.name

    # -- what it does

    def _heartbeat(self) -> None:
        self._store.sign_on(self._workflows, LEASE)
        if self._lifeline is not None:
            self._lifeline.hold(this_process())

    def _dispatch_queued(self) -> None:
        """Send what waits. A crash in between is found by the audit."""
        rows = self._store.send(self._workflows, SOME)
        for row in rows:
            self._dispatch.send(row.run_id, row.owner_id, row.sent)
        if len(rows) == SOME:
            self._due[self._dispatch_queued] = 0.0

    def _requeue_orphans(self) -> None:
        """Find dead workers: what they had taken is queued again; what may not go on is given an end."""
        others, now = self._store.other_workers()
        for worker in others:
            if self._is_dead(worker, now):
                log.warning(
                    "the worker %s is gone: what it had taken goes on elsewhere", describe_process(worker.process)
                )
                self._store.sign_off(worker.process, dead=True)
                self._dispatch.recover(worker.process)
        self._store.end_lost_soon()

    def _is_dead(self, worker: WorkerRow, now: float) -> bool:
        if is_dead(worker.process) or worker.until < now:
            return True
        return self._lifeline is not None and self._lifeline.is_released(worker.process)

    def _resend_forgotten(self) -> None:
        """See that nothing was forgotten: runs whose sender or driver died at the wrong moment are sent again."""
        self._store.drop_ended()
        self._store.requeue_lost(set(self._workflows))
        sent = [row for row in self._store.sent_before(AUDIT, SOME) if row.owner_id in self._workflows]
        if sent:
            under_way = self._dispatch.in_flight({row.run_id: row.sent for row in sent})
            self._store.send_again([row for row in sent if row.run_id not in under_way])
        self._warn_unknown_workflows()

    def _warn_unknown_workflows(self) -> None:
        """Say which runs wait for a worker that doesn't exist, once."""
        unknown = [run for run in self._store.queued_runs() if run.workers == 0]
        for name in {run.workflow_id for run in unknown} - self._unknown:
            count = sum(run.workflow_id == name for run in unknown)
            log.warning("%d runs of workflow %r wait for a worker that has it", count, name)
        self._unknown = {run.workflow_id for run in unknown}
