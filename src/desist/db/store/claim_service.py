"""`ClaimService`: ownership of runs on shared tables: claims, checkpoints, ends, and cancels of runs of any process.

One process works on a run, the one that claimed it, and it writes only in the epoch of its claim. Any process may
cancel a run: the request is stored, and the owner is notified, and polls. Methods are called from any thread; the jobs
that they give to the writer run in its thread, one transaction at a time, and possibly twice, because a failed batch is
repeated job by job. `transactions` decides within the transaction; `leases` knows the epochs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from desist.cancel.receipt import CancelReceipt, CancelRecord
from desist.cancel.scope import Outcome
from desist.cancel.status import RunStatus
from desist.db.backends.base import SharedBackend
from desist.db.coordination import takeover, transactions
from desist.db.coordination.cancel_watches import ANSWER_TIMEOUT
from desist.db.coordination.lease_keeper import LeaseKeeper
from desist.db.coordination.run_batch import Claim, End, RunBatch
from desist.db.process.lease_observer import leases
from desist.db.process.live_runs import LiveRuns
from desist.db.records.cancel_request import CancelRequestRow
from desist.db.records.codec import encode, encode_part
from desist.db.recovery.orphans import fail_run, find_orphans
from desist.db.recovery.run_jobs import begin_one_by_one
from desist.db.store.part_buffer import PartBuffer
from desist.db.store.run_recorder import DroppedParts
from desist.db.store.unwritten_ends import UnwrittenEnds
from desist.db.tables.sql import SqlTables
from desist.db.writer import Writer
from desist.exceptions import LeaseLostError, StoreError
from desist.run.storage.shared_store import ClaimResult
from desist.run.storage.values import CancelRequest, PartKind, StoredRun

__all__ = ["ClaimService"]

log = logging.getLogger("desist.db")
T = TypeVar("T")

#: Seconds for which the claim of a run that does not wait for its claim may wait for other writes, such as its own end.
PATIENCE = 0.005


class ClaimService:
    """The part of `SharedTableStore` that writes about runs.

    Parameters:
        on_ended: called when the end of a run is stored, or its writing is over, with the addresses of the processes
            to notify. Must not block.
    """

    def __init__(
        self,
        backend: SharedBackend,
        writer: Writer,
        leases: LeaseKeeper,
        live: LiveRuns,
        on_ended: Callable[[str, list[str]], object],
    ) -> None:
        self._on_ended = on_ended
        self._backend, self._writer, self._leases, self._live = backend, writer, leases, live
        self._batch, self._parts = (
            RunBatch(leases, backend.names.run_lock),
            PartBuffer(writer, leases, DroppedParts(backend.name)),
        )
        self.unwritten = UnwrittenEnds(writer, self.save_run)

    # -- what the owner of a run writes

    def claim_run(self, run: StoredRun, *, soon: bool = False) -> Future[ClaimResult]:
        """Claim a run that starts here. See `SharedStore`."""
        held = self._leases.owned.get(run.run_id)
        if held is not None and held.taken and held.durable and not _limits_to_store(run):
            self._leases.owned.mark_started(run.run_id)
            known: Future[ClaimResult] = Future()
            known.set_result(ClaimResult(None, None))
            return known
        claim = Claim(run, encode(run.output))

        def set_result(found: tuple[int, CancelRequestRow | None, str | None]) -> ClaimResult:
            epoch, request, refused = found
            if refused is None:
                self._leases.owned.confirm(run.run_id, epoch, claim.written_at)
            return ClaimResult(request.request() if request is not None else None, refused)

        self._leases.start()
        self._parts.expect_claim(run.run_id)
        done = self._writer.put_item(self._batch, claim, patience=0.0 if soon else PATIENCE)
        done.add_done_callback(lambda _: self._parts.on_claimed(run.run_id))
        return _then(done, set_result)

    @property
    def has_checkpoints(self) -> bool:
        """Whether checkpoints are on their way to the writer."""
        return bool(self._parts)

    def add_part(self, run_id: str, kind: PartKind, value: Any, at: Mapping[str, Any] | None = None) -> None:
        """Store a checkpoint. See `RunStore`."""
        self._parts.add(encode_part(run_id, kind, value, at))

    def end_run(self, run_id: str, decide: Callable[[], StoredRun | None]) -> Future[CancelRequest | None]:
        """Store the end of a run, unless it was cancelled. See `SharedStore`."""
        end = End(run_id, decide, self._parts.take(run_id))
        done = self._writer.put_item(self._batch, end, last=True)
        done.add_done_callback(lambda ended: self._on_end_stored(end, ended.exception()))
        owned = self._leases.owned.get(run_id)
        if owned is not None and owned.submitter is not None:
            done.add_done_callback(partial(self._wake, owned.submitter))
        return done

    def _wake(self, submitter: str, done: Future[Any]) -> None:
        self._backend.wake(submitter)

    def _finish(self, tables: SqlTables, run: StoredRun, epoch: int) -> list[str]:
        """Store the end of a run; return the addresses of the processes to notify.

        Raises:
            LeaseLostError: another process owns the run. After a refused claim the message names the owner. A row that
                has ended in the same way is no error: a run may be cancelled between its claim and its start.
        """
        owned = self._leases.owned.get(run.run_id)
        try:
            listeners = transactions.finish_run(tables, run, epoch)
            if owned is None or owned.submitter is None:
                return listeners
            tables.tx.notify(owned.submitter)
            return [*listeners, owned.submitter]
        except LeaseLostError as error:
            if owned is not None and owned.refused is not None:
                raise LeaseLostError(owned.refused) from error
            raise

    def _on_end_stored(self, end: End, error: BaseException | None) -> None:
        if error is None:
            self._on_ended(end.run_id, end.followers)
        run = end.chosen[0] if end.chosen else None
        if error is not None:
            self._parts.add(*end.parts)  # until the end is stored, a crash must not lose them
        if run is not None:
            self.settle(run, error)
            if error is None:
                self._leases.owned.remove(end.run_id)

    def save_run(self, run: StoredRun) -> Future[None]:
        """Store a run, and its change of the session. The end of a claimed run is stored only in its epoch."""
        leaves = run.status.is_final or run.status is RunStatus.paused  # this process has no more to do with the run
        text = None if leaves else encode(run.output)

        def work(tables: SqlTables) -> list[str]:
            epoch = self._leases.epoch_of(run.run_id) if leaves else None
            if epoch is not None:
                return self._finish(tables, run, epoch)
            transactions.replace_run(tables, run, text)
            return []

        def set_result(listeners: list[str]) -> None:
            if leaves:
                self._leases.owned.remove(run.run_id)
            self._on_ended(run.run_id, listeners)

        done = _then(self._writer.put(work), set_result)
        if leaves:
            done.add_done_callback(lambda ended: self.settle(run, ended.exception()))
        return done

    def settle(self, run: StoredRun, error: BaseException | None) -> None:
        """Keep an end that could not be stored, to retry it; forget one that is stored, or never can be."""
        if isinstance(error, LeaseLostError):  # another try would be refused, too
            self._leases.owned.remove(run.run_id)
            self.unwritten.forget(lambda one: one.run_id == run.run_id)
        else:
            self.unwritten.settle(run, error)

    # -- cancelling

    def record_cancel(self, run_id: str, request: CancelRequest) -> None:
        """Store that a run is being cancelled here. See `SharedStore`."""
        self._leases.on_cancel_applied(run_id, request)

        def work(tables: SqlTables) -> None:
            epoch = self._leases.epoch_of(run_id)
            if epoch is not None:
                transactions.record_cancel(tables, run_id, epoch, request)

        self._writer.put(work)

    def request_cancel(self, run_id: str, request: CancelRequest) -> CancelReceipt:
        """Cancel a run of any process. See `SharedStore`."""
        self._leases.start()
        listener = self._backend.address

        def work(tables: SqlTables) -> transactions.CancelOutcome:
            return transactions.request_cancel(tables, run_id, request, listener)

        return self.receipt_of(self._writer.put(work).result(), request)  # ends in time: the writer bounds it

    def receipt_of(self, answer: transactions.CancelOutcome, request: CancelRequest) -> CancelReceipt:
        """Notify the process of a run that was cancelled from here, and return the receipt."""
        if answer.address is not None and answer.record_cancel is not None:
            self._backend.wake(answer.address)
        if answer.outcome is Outcome.unknown or answer.row is None:
            return CancelReceipt(answer.outcome, answer.run_id, lambda: None)
        status = RunStatus(answer.row.status)
        if answer.outcome is Outcome.finished:
            return CancelReceipt(answer.outcome, answer.run_id, lambda: status)
        live = self._live.get(answer.run_id)
        if live is not None and answer.record_cancel is not None and not live.owned_elsewhere:  # started here meanwhile
            live.apply_cancel_request(answer.record_cancel.request())
        reason = answer.record_cancel.request().reason if answer.record_cancel is not None else request.reason
        answer_deadline = time.monotonic() + ANSWER_TIMEOUT + (request.grace or 0.0)
        watch = self._leases.watch(answer.run_id, CancelRecord.of(reason), answer_deadline)
        return CancelReceipt(answer.outcome, answer.run_id, lambda: watch.status, watch.record, watch.latch)

    # -- runs of processes that have died

    def _orphans(self, kind: str, owner_id: str) -> dict[str, str | None]:
        with self._backend.reading() as tables:
            return {row.run_id: row.process for row in find_orphans(tables, kind, owner_id)}

    def take_orphans(self, kind: str, owner_id: str) -> list[StoredRun]:
        """Take over the resumable runs of a workflow whose processes have died. See `SharedStore`."""
        self._leases.start()
        found = self._orphans(kind, owner_id)
        if leases.wait_decided():  # a lease looked over: a clock may have stepped
            found = self._orphans(kind, owner_id)

        def work(tables: SqlTables, run_id: str) -> StoredRun | None:
            self._leases.heartbeat_if_due(tables)
            taken = takeover.take_orphans(tables, run_id)
            if taken is None:
                return None
            self._leases.on_claimed(run_id, taken[0].epoch, taken=True)
            return taken[1]

        runs: list[StoredRun] = []
        for run_id, done in begin_one_by_one(self._writer, found, work, "taken"):
            try:
                run = done.result()  # ends in time: the writer bounds it
            except StoreError:  # the takeover may still be written, without a start: the next job undoes it
                self._leave_lost(run_id, found[run_id])
                continue
            runs += [run] if run is not None else []
        return runs

    def _leave_lost(self, run_id: str, process: str | None) -> None:
        def work(tables: SqlTables) -> None:
            takeover.leave_lost(tables, run_id, process)
            self._leases.owned.remove(run_id)

        self._writer.put(work)

    def fail_claimed_run(self, run_id: str, message: str) -> None:
        """End a run that this process has taken over and that its workflow can't resume."""
        self._leases.owned.remove(run_id)
        self._writer.put(lambda tables: fail_run(tables, run_id, message)).result()


def _limits_to_store(run: StoredRun) -> bool:
    """Return whether a run has limits that the process must know that resumes it."""
    return run.resumable and run.options is not None and run.options.text() is not None


def _then(first: Future[Any], change: Callable[[Any], T]) -> Future[T]:
    """Return a future for what `change` makes of the first one's result."""
    second: Future[T] = Future()

    def ended(done: Future[Any]) -> None:
        error = done.exception()
        try:
            if error is not None:
                second.set_exception(error)
            else:
                second.set_result(change(done.result()))
        except Exception as mistake:
            log.exception("bug in desist: the result of a write could not be passed on")
            if not second.done():
                second.set_exception(mistake)

    first.add_done_callback(ended)
    return second
