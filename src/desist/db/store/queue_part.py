"""The part of the store for runs that wait for a worker, and for the workers: `QueueStore`, and what a worker needs.

Methods are called from any thread. Each decision is one transaction of the writer; see `queue_transactions`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import msgspec

from desist.cancel.reason import Source
from desist.cancel.receipt import CancelRecord
from desist.cancel.registry import registry
from desist.cancel.scope import Outcome
from desist.db.coordination import queue_transactions as queueing
from desist.db.coordination.cancel_watches import CancelWatch
from desist.db.coordination.owned_runs import GIVEN_BACK
from desist.db.process.identity import is_dead, this_process
from desist.db.records.codec import encode
from desist.db.recovery.orphans import find_orphans
from desist.db.recovery.run_jobs import one_by_one
from desist.exceptions import RunIdInUseError, StoreError
from desist.run.storage.queue_store import ClaimedRun, CompletionWatch, QueuedRun
from desist.run.storage.values import CancelRequest, StoredRun

if TYPE_CHECKING:
    from desist.db.backends.base import SharedBackend
    from desist.db.coordination.lease_keeper import LeaseKeeper
    from desist.db.tables.base import QueuedRow, WorkerRow
    from desist.db.tables.sql import SqlTables
    from desist.db.writer import Writer

__all__ = ["QueuePart"]


class QueuePart:
    """The queue and the workers. All methods but `give_back` and `drop_ended` block."""

    def __init__(self, backend: SharedBackend, writer: Writer, leases: LeaseKeeper) -> None:
        self._backend, self._writer, self._leases = backend, writer, leases

    # -- submitting

    def queue_run(self, run: StoredRun, options: dict[str, Any]) -> None:
        """Store a run for the workers. See `QueueStore`."""
        text, encoded = encode(run.output), msgspec.json.encode(options).decode()

        def work(tables: SqlTables) -> Outcome | None:
            return queueing.queue(tables, run, text, encoded)

        known = Outcome.unknown if registry.get(run.run_id) is not None else self._writer.put(work).result()
        if known is not None:
            how = "has ended" if known is Outcome.finished else "is live or queued"
            raise RunIdInUseError(f"run id {run.run_id!r} belongs to a run that {how}: choose another, or none")

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
        live = [worker.workflows for worker in workers if worker.until >= now and not is_dead(worker.process)]
        return [
            QueuedRun(
                run_id=row.run_id,
                workflow_id=row.owner_id,
                since=row.at,
                workers=sum(row.owner_id in workflows for workflows in live),
            )
            for row in rows
        ]

    # -- executing

    def take_queued(self, run_id: str) -> ClaimedRun | None:
        """Claim a queued run, or a run whose process has died. See `QueueStore`."""
        self._leases.start()

        def work(tables: SqlTables) -> ClaimedRun | None:
            self._leases.heartbeat_if_due(tables)
            taken = queueing.take_queued(tables, run_id)
            if taken is None:
                return None
            row, run, options = taken
            self._leases.on_claimed(row.run_id, row.epoch, taken=True)
            return ClaimedRun(run, msgspec.json.decode(options))

        try:
            return self._writer.put(work).result()
        except StoreError:  # the claim may still be written, without a start: the next job undoes it
            self._writer.put(lambda tables: self._release(tables, run_id))
            raise

    def _release(self, tables: SqlTables, run_id: str) -> None:
        if registry.get(run_id) is None and queueing.release(tables, run_id):
            self._leases.owned.remove(run_id)

    def give_back(self, run: StoredRun) -> Future[CancelRequest | None]:
        """Requeue a run of this process. See `SharedStore`."""

        def work(tables: SqlTables) -> CancelRequest | None:
            epoch = self._leases.epoch_of(run.run_id)
            return queueing.requeue(tables, run, GIVEN_BACK if epoch is None else epoch)

        done = self._writer.put(work, last=True)
        done.add_done_callback(lambda ended: self._leases.owned.hand_over(run.run_id))
        return done

    # -- maintenance by a worker

    def send(self, owner_ids: Sequence[str], limit: int) -> list[QueuedRow]:
        """Take runs of these workflows that are to be sent."""
        with self._backend.reading() as tables:
            due = tables.queue.has_unsent(owner_ids)
        return self._writer.put(lambda tables: tables.queue.send(owner_ids, limit)).result() if due else []

    def sent_before(self, seconds: float, limit: int) -> list[QueuedRow]:
        """Return runs that were sent so many seconds ago and still wait."""
        with self._backend.reading() as tables:
            return tables.queue.waiting(limit, tables.now() - seconds)

    def send_again(self, rows: Sequence[QueuedRow]) -> None:
        """Make these runs due to be sent again."""

        def work(tables: SqlTables) -> None:
            for row in rows:
                tables.queue.put(row.run_id, row.owner_id, row.options)

        self._writer.put(work).result()

    def requeue_lost(self, owner_ids: set[str]) -> list[str]:
        """Queue the resumable runs of these workflows whose processes have died; return their ids."""
        with self._backend.reading() as tables:
            found = [row.run_id for row in find_orphans(tables, "workflow") if queueing.may_be_requeued(row, owner_ids)]
        return [
            run_id for run_id, done in one_by_one(self._writer, found, queueing.requeue_lost, "queued again") if done
        ]

    def sign_on(self, workflows: Sequence[str], lease: float) -> None:
        """Store that this process is a worker, its workflows and its lease."""
        self._writer.put(lambda tables: tables.workers.put(this_process(), workflows, lease)).result()

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

    def drop_ended(self) -> None:
        """Delete the options of ended runs soon."""
        self._writer.put_droppable(lambda tables: tables.queue.delete_ended())
