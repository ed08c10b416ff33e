"""The part of the store for submitted runs: `QueueStore`. `WorkerPart` has what only workers need.

Methods are called from any thread. Each decision is one transaction of the writer; see `queue_transactions`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

import msgspec

from desist.cancel.reason import Source
from desist.cancel.receipt import CancelRecord
from desist.cancel.registry import registry
from desist.cancel.scope import Outcome
from desist.cancel.status import RunStatus
from desist.db.coordination import queue_transactions as queueing
from desist.db.coordination.cancel_watches import CancelWatch
from desist.db.coordination.owned_runs import GIVEN_BACK
from desist.db.coordination.queue_transactions import NewRun
from desist.db.process.identity import is_dead
from desist.db.records.codec import encode
from desist.db.tables.base import QueuedRow, QueueState
from desist.exceptions import RunIdInUseError, StoreError
from desist.run.storage.queue_store import ClaimedRun, CompletionWatch, QueuedRun, QueueRequest
from desist.run.storage.values import CancelRequest, StoredRun

if TYPE_CHECKING:
    from desist.db.backends.base import SharedBackend
    from desist.db.coordination.lease_keeper import LeaseKeeper
    from desist.db.tables.sql import SqlTables
    from desist.db.writer import Writer

__all__ = ["QueuePart"]


class QueuePart:
    """The queue. All methods but `give_back` block."""

    def __init__(self, backend: SharedBackend, writer: Writer, leases: LeaseKeeper) -> None:
        self._backend, self._writer, self._leases = backend, writer, leases

    # -- submitting

    def queue_runs(self, requests: Sequence[QueueRequest]) -> list[str]:
        """Store runs for the workers. See `QueueStore`."""
        self._leases.start()  # before it can notify others, and be notified
        new = [_new_run(request, self._backend.address) for request in requests]
        for request in requests:
            if request.given_id and registry.get(request.run.run_id) is not None:
                raise _in_use(request.run.run_id, Outcome.unknown)

        for address in self._writer.put(lambda tables: queueing.queue(tables, new)).result():
            self._backend.wake(address)
        for one in new:
            if one.refused is not None:
                raise _in_use(one.run.run_id, one.refused)
        return [one.taken_id or one.run.run_id for one in new]

    def statuses(self, run_ids: Sequence[str]) -> dict[str, RunStatus]:
        """Return the statuses of those of these runs that exist."""
        with self._backend.reading() as tables:
            return {run_id: RunStatus(status) for run_id, status in tables.runs.statuses(run_ids).items()}

    def watch_end(self, run_id: str) -> CancelWatch:
        """Watch a run of any process until it has ended. See `QueueStore`."""
        self._leases.start()
        unfilled = CancelRecord(source=Source.user)  # replaced by the stored record, if the run is cancelled
        return self._leases.watch(run_id, unfilled, math.inf)

    def remove_watch(self, watch: CompletionWatch) -> None:
        """Remove a watch."""
        self._leases.remove_watch(watch)

    def queued_runs(self, limit: int = 1000) -> list[QueuedRun]:
        """Return the queued runs. See `QueueStore`."""
        with self._backend.reading() as tables:
            rows, workers, now = tables.queue.waiting(limit), tables.workers.all(), tables.now()
            limits = tables.limits.all()
        live = [worker.workflows for worker in workers if worker.until >= now and not is_dead(worker.process)]
        paused = {owner for owner, row in limits.items() if row.paused}
        return [_queued_run(row, sum(row.owner_id in names for names in live), row.owner_id in paused) for row in rows]

    # -- executing

    def take_queued(self, run_id: str) -> ClaimedRun | None:
        """Claim a queued run, or a run whose process has died. See `QueueStore`."""
        self._leases.start()

        def work(tables: SqlTables) -> ClaimedRun | None:
            self._leases.heartbeat_if_due(tables)
            taken = queueing.take_queued(tables, run_id)
            if taken is None:
                return None
            row, run, queued = taken
            self._leases.on_claimed(row.run_id, row.epoch, taken=True, submitter=queued.submitter)
            return ClaimedRun(run, msgspec.json.decode(queued.options))

        try:
            return self._writer.put(work).result()
        except StoreError:  # the claim may still be written, without a start: the next job undoes it
            self.release([run_id])
            raise

    def release(self, run_ids: Collection[str]) -> None:
        """Requeue soon those of these runs that this process has claimed and not started. Does not block.

        Parameters:
            run_ids: read in the writer's thread, so an earlier job may still add to it.
        """

        def work(tables: SqlTables) -> None:
            for run_id in sorted(run_ids):
                if registry.get(run_id) is None and queueing.release(tables, run_id):
                    self._leases.owned.remove(run_id)

        self._writer.put(work)

    def give_back(self, run: StoredRun) -> Future[CancelRequest | None]:
        """Requeue a run of this process. See `SharedStore`."""

        def work(tables: SqlTables) -> CancelRequest | None:
            epoch = self._leases.epoch_of(run.run_id)
            return queueing.requeue(tables, run, GIVEN_BACK if epoch is None else epoch)

        done = self._writer.put(work, last=True)
        done.add_done_callback(lambda ended: self._leases.owned.hand_over(run.run_id))
        return done

    def remove_ended_soon(self, run_ids: Sequence[str]) -> Future[list[str]]:
        """Delete those of these runs from the queue that have ended, and let the runs that wait for their keys be
        claimed. Does not block; the future ends when the change is durable.
        """

        def work(tables: SqlTables) -> list[str]:
            limits = {owner: row.per_key for owner, row in tables.limits.all().items() if row.per_key is not None}
            return tables.workers.notify_hungry(tables.queue.remove(run_ids, limits))

        done = self._writer.put(work, last=True)
        done.add_done_callback(self._wake_workers)
        return done

    def _wake_workers(self, done: Future[list[str]]) -> None:
        for address in done.result() if done.exception() is None else ():
            self._backend.wake(address)


def _new_run(request: QueueRequest, submitter: str) -> NewRun:
    run = request.run
    row = QueuedRow(
        run.run_id,
        run.owner_id or "",
        msgspec.json.encode(request.options).decode(),
        0.0,  # set within the transaction
        priority=request.priority,
        due_at=request.due_at,
        concurrency_key=request.concurrency_key,
        dedup_key=request.dedup_key,
        submitter=submitter or None,
    )
    return NewRun(run, encode(run.output), row, delay=request.delay, known_id=request.given_id)


def _in_use(run_id: str, why: Outcome) -> RunIdInUseError:
    how = "has ended" if why is Outcome.finished else "is live or queued"
    return RunIdInUseError(f"run id {run_id!r} belongs to a run that {how}: choose another, or none")


def _queued_run(row: QueuedRow, workers: int, paused: bool) -> QueuedRun:
    return QueuedRun(
        run_id=row.run_id,
        workflow_id=row.owner_id,
        since=row.at,
        workers=workers,
        due_at=row.due_at if row.state == QueueState.scheduled else None,
        held_by=row.concurrency_key if row.state == QueueState.held else None,
        paused=paused,
    )
