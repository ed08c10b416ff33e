"""The part of the store for workers: claims in batches, registration, requeueing, limits and schedules.

Methods are called from any thread, and block. Each decision is one transaction of the writer; see `claim_transactions`
and `queue_transactions`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from desist.db.coordination import claim_transactions as claiming
from desist.db.coordination import queue_transactions as queueing
from desist.db.process.identity import describe_process, is_dead, this_process
from desist.db.recovery.orphans import find_orphans
from desist.db.recovery.run_jobs import one_by_one
from desist.db.tables.base import LimitRow, QueueState, ScheduleRow, WorkerRow
from desist.exceptions import StoreError
from desist.run.storage.queue_store import ClaimedRun, QueueStatistics, WorkerInfo

if TYPE_CHECKING:
    from desist.db.backends.base import SharedBackend
    from desist.db.coordination.claim_transactions import Claim
    from desist.db.coordination.lease_keeper import LeaseKeeper
    from desist.db.store.queue_part import QueuePart
    from desist.db.tables.sql import SqlTables
    from desist.db.writer import Writer

__all__ = ["ClaimedBatch", "WorkerPart"]


@dataclass(slots=True)
class ClaimedBatch:
    """What a worker has got."""

    runs: list[ClaimedRun] = field(default_factory=list)
    hungry: bool = False  #: the worker is notified of the next run
    wait: float | None = None  #: seconds until a scheduled run is due


class WorkerPart:
    """What a worker needs beyond the queue."""

    def __init__(self, backend: SharedBackend, writer: Writer, leases: LeaseKeeper, queue: QueuePart) -> None:
        self._backend, self._writer, self._leases, self._queue = backend, writer, leases, queue

    # -- claiming

    def claim_batch(
        self, owner_ids: Sequence[str], places: int, ended: Sequence[str] = (), *, due: bool = False
    ) -> ClaimedBatch:
        """Claim runs of these workflows for this process; the workflows that are named first are first.

        Parameters:
            places: the maximum of runs. 0: only `ended` is done.
            ended: runs of this worker that have ended, and make room for others.
            due: look for scheduled runs whose time has come.
        """
        return self._claim(lambda tables: claiming.claim(tables, owner_ids, places, ended, due=due))

    def claim_or_wait(self, owner_ids: Sequence[str], places: int) -> ClaimedBatch:
        """Claim runs; let this worker be notified of the next ones that are added, and of none before."""
        return self._claim(lambda tables: claiming.claim_or_wait(tables, owner_ids, places))

    def set_sated(self) -> None:
        """Let this worker not be notified any more. Does not block."""
        self._writer.put_droppable(lambda tables: tables.workers.set_hungry(this_process(), False))

    def _claim(self, claim: Callable[[SqlTables], Claim]) -> ClaimedBatch:
        self._leases.start()
        tried: set[str] = set()
        written_at = 0.0

        def work(tables: SqlTables) -> Claim:
            nonlocal written_at
            written_at = time.monotonic()  # before the write: what others do to the runs comes after the transaction
            self._leases.heartbeat_if_due(tables)
            found = claim(tables)
            for one in found.runs:
                tried.add(one.run.run_id)
                self._leases.on_claimed(one.run.run_id, one.epoch, taken=True, submitter=one.queued.submitter)
            return found

        try:
            found = self._writer.put(work).result()
        except StoreError:  # the claims may still be written, without a start: the next job undoes them
            self._queue.release(tried)  # as the set is then
            raise
        for address in found.notified:
            self._backend.wake(address)
        for run_id in tried - {one.run.run_id for one in found.runs}:  # of an attempt that was rolled back
            self._leases.owned.remove(run_id)
        for one in found.runs:
            self._leases.owned.mark_durable(one.run.run_id, one.epoch, written_at)
        runs = [ClaimedRun(one.run, msgspec.json.decode(one.queued.options), one.new_session) for one in found.runs]
        return ClaimedBatch(runs, found.hungry, found.wait)

    # -- registration

    def sign_on(self, workflows: Sequence[str], lease: float, address: str, concurrency: int, since: float) -> None:
        """Store that this process is a worker: its workflows, its lease in seconds, where it is notified."""

        def work(tables: SqlTables) -> None:
            until = tables.now() + lease
            row = WorkerRow(this_process(), list(workflows), until, address, 0, concurrency, since)
            tables.workers.put(row)

        self._writer.put(work).result()

    def sign_off(self, process: str, *, dead: bool) -> bool:
        """Delete a worker; return whether it existed.

        Parameters:
            dead: end the lease of its runs, too.
        """

        def work(tables: SqlTables) -> bool:
            if dead:
                tables.owners.expire(process)
            return tables.workers.delete(process)

        return self._writer.put(work).result()

    def other_workers(self) -> tuple[list[WorkerRow], float]:
        """Return the other workers, and the time of the database."""
        with self._backend.reading() as tables:
            return [worker for worker in tables.workers.all() if worker.process != this_process()], tables.now()

    def requeue_lost(self, owner_ids: set[str]) -> list[str]:
        """Queue the resumable runs of these workflows whose processes have died; return their ids."""
        with self._backend.reading() as tables:
            found = [row.run_id for row in find_orphans(tables, "workflow") if queueing.may_be_requeued(row, owner_ids)]
        return [
            run_id for run_id, done in one_by_one(self._writer, found, queueing.requeue_lost, "queued again") if done
        ]

    def remove_ended(self) -> None:
        """Delete from the queue what ended without its worker, for example by a cancel after a crash."""

        def work(tables: SqlTables) -> list[str]:
            keys = claiming.per_key(tables.limits.all())
            return tables.workers.notify_hungry(tables.queue.remove_ended(keys))

        for address in self._writer.put(work).result():
            self._backend.wake(address)

    # -- reading

    def workers(self) -> list[WorkerInfo]:
        """Return the workers."""
        with self._backend.reading() as tables:
            rows, now, live = tables.workers.all(), tables.now(), tables.runs.live()
        running: dict[str | None, list[str]] = {}
        for run in live:
            if run.parent_run_id is None:
                running.setdefault(run.process, []).append(run.run_id)
        return [
            WorkerInfo(
                process=row.process,
                description=describe_process(row.process),
                workflows=row.workflows,
                concurrency=row.concurrency,
                running=running.get(row.process, []),
                started_at=row.started_at,
                live=row.until >= now and not is_dead(row.process),
            )
            for row in rows
        ]

    def queue_statistics(self) -> list[QueueStatistics]:
        """Return the queued and live runs of each workflow that has some, a limit or a worker."""
        with self._backend.reading() as tables:
            counts, limits, now = tables.queue.counts(), tables.limits.all(), tables.now()
            workers = [row for row in tables.workers.all() if row.until >= now and not is_dead(row.process)]
        names = {owner for owner, *_ in counts} | set(limits) | {name for row in workers for name in row.workflows}
        found: list[QueueStatistics] = []
        for name in sorted(names):
            states = {state: (count, oldest) for owner, state, count, oldest in counts if owner == name}
            limit = limits.get(name, LimitRow(name))
            one = QueueStatistics(
                workflow_id=name,
                queued=states.get(QueueState.ready, (0, 0))[0],
                scheduled=states.get(QueueState.scheduled, (0, 0))[0],
                held=states.get(QueueState.held, (0, 0))[0],
                running=states.get(QueueState.claimed, (0, 0))[0],
                oldest=max(0.0, now - states[QueueState.ready][1]) if QueueState.ready in states else None,
                workers=sum(name in row.workflows for row in workers),
                limit=limit.runs,
                limit_per_key=limit.per_key or 1,
                paused=bool(limit.paused),
            )
            found.append(one)
        return found

    # -- limits and schedules

    def change_limits(self, owner_id: str, change: Callable[[LimitRow], LimitRow]) -> None:
        """Change the limits of a workflow on all workers, and let runs be claimed that they allow now."""

        def work(tables: SqlTables) -> list[str]:
            row = change(tables.limits.all().get(owner_id, LimitRow(owner_id)))
            tables.limits.put(row)
            tables.queue.admit_all_held(owner_id, row.per_key or 1)
            return tables.workers.notify_hungry([owner_id])

        self._leases.start()
        for address in self._writer.put(work).result():
            self._backend.wake(address)

    def store_schedule(self, name: str, workflow_id: str, cron: str, timezone: str, request: str, at: float) -> None:
        """Store a schedule, replacing one of its name. See `QueueStore`."""
        row = ScheduleRow(name, workflow_id, cron, timezone, request, at)
        self._writer.put(lambda tables: tables.schedules.put(row)).result()

    def due_schedules(self, owner_ids: Sequence[str]) -> list[ScheduleRow]:
        """Return the schedules of these workflows whose time has come."""
        with self._backend.reading() as tables:
            return tables.schedules.due(owner_ids)

    def advance_schedule(self, row: ScheduleRow, to: ScheduleRow) -> None:
        """Set the next time of a schedule, unless another process has set it, or has changed the schedule."""
        self._writer.put(lambda tables: tables.schedules.advance(row, to)).result()

    def schedules(self) -> list[ScheduleRow]:
        """Return all schedules."""
        with self._backend.reading() as tables:
            return tables.schedules.all()

    def delete_schedule(self, name: str) -> bool:
        """Delete a schedule; return whether it existed."""

        def work(tables: SqlTables) -> bool:
            return tables.schedules.delete(name)

        return self._writer.put(work).result()
