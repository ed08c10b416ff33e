"""The store on tables that several processes use: what `desist.run.storage.shared_store.SharedStore` asks for.

One process works on a run, that which claimed it, and it writes only in the epoch of its claim. Each may cancel it: the
request is recorded, its process is woken, and looks. `attendant` looks; `asking` has what is decided.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, TypeVar

from desist.cancel.receipt import CancelReceipt, CancelRecord
from desist.cancel.registry import registry
from desist.cancel.scope import Outcome
from desist.cancel.status import RunStatus
from desist.db.coordination import transactions as asking
from desist.db.coordination.lease_keeper import ANSWER_TIMEOUT, LeaseKeeper
from desist.db.events.flusher import EventFlusher
from desist.db.migrations.report import SchemaReport
from desist.db.process.identity import this_process
from desist.db.process.notifier import channel
from desist.db.records.cancel_request import CancelRequestRow
from desist.db.records.codec import encode, encode_part
from desist.db.recovery.orphans import end_orphans, fail_run, find_orphans, is_over, is_resumable
from desist.db.recovery.run_jobs import begin_one_by_one, one_by_one
from desist.db.store.pruning import PruneResult, prune
from desist.db.store.queue_part import QueuePart
from desist.db.store.stored_follower import FollowerHub
from desist.db.store.table_store import TableStore
from desist.db.tables.base import SharedBackend, SharedTables
from desist.exceptions import LeaseLostError, StoreError
from desist.run.storage.event_buffer import EventBuffer
from desist.run.storage.shared_store import ClaimResult
from desist.run.storage.values import CancelRequest, PartKind, StoredRun
from desist.streams.follower import Follower

__all__ = ["SharedTableStore", "as_found"]

log = logging.getLogger("desist.db")
T = TypeVar("T")
_as_found: ContextVar[bool] = ContextVar("desist_as_found", default=False)


@contextmanager
def as_found() -> Iterator[None]:
    """Leave the runs of databases that are opened within this as they are found: lost ones aren't ended."""
    before = _as_found.set(True)
    try:
        yield
    finally:
        _as_found.reset(before)


class SharedTableStore(QueuePart, TableStore):
    """Runs and sessions in tables that other processes use at the same time. Parameters as for `TableStore`."""

    shared = True
    place: SharedBackend

    def __init__(self, backend: SharedBackend, timeout: float) -> None:
        super().__init__(backend, timeout)
        self.attendant, self.telling, self.followers = LeaseKeeper(self), EventFlusher(self), FollowerHub(self)
        if not _as_found.get():
            self.end_lost_soon()

    # -- what the owner of a run writes

    def claim_run(self, run: StoredRun) -> Future[ClaimResult]:
        """Record that a run starts here."""
        text, owned = encode(run.output), self.attendant
        written_at = 0.0

        def work(tables: SharedTables) -> tuple[int, CancelRequestRow | None, str | None]:
            nonlocal written_at
            written_at = time.monotonic()  # before it: what others do to the run comes after the transaction
            owned.heartbeat_if_due(tables)
            found = asking.claim_run(tables, run, text, owned.epoch_of(run.run_id), owned.has_dequeued(run.run_id))
            if found[2] is None:
                owned.on_claimed(run.run_id, found[0])
            else:
                owned.on_handed_over(run.run_id)  # it is another one's: what this one ends as isn't recorded
            return found

        def set_result(found: tuple[int, CancelRequestRow | None, str | None]) -> ClaimResult:
            epoch, note, refused = found
            if refused is None:
                owned.claim_is_durable(run.run_id, epoch, written_at)
            return ClaimResult(note.request() if note is not None else None, refused)

        channel.register(owned)
        self.place.listen()
        return _then(self.writer.put(work), set_result)

    def add_part(self, run_id: str, kind: PartKind, value: Any, at: Mapping[str, Any] | None = None) -> None:
        """Record what has finished while the run goes on."""
        row = encode_part(run_id, kind, value, at)

        def work(tables: SharedTables) -> None:
            epoch = self.attendant.epoch_of(run_id)
            if not tables.add_part(row, epoch) and epoch is not None:
                # looks beside this transaction whether the run is somebody else's
                self.attendant.check_ownership_soon()

        if not self.writer.put_droppable(work):
            self._log_dropped()

    def end_run(self, run_id: str, decide: Callable[[], StoredRun | None]) -> Future[CancelRequest | None]:
        """Record the end of a run, unless it was cancelled."""
        chosen: list[StoredRun | None] = []

        def choose() -> StoredRun | None:
            if not chosen:  # done anew after a failure, it isn't decided a second time
                chosen.append(decide())
            return chosen[0]

        def work(tables: SharedTables) -> CancelRequest | None:
            epoch = self.attendant.epoch_of(run_id)
            if epoch is None:  # its start could not be recorded
                run = choose()
                if run is not None:
                    asking.replace_run(tables, run, None)
                return None
            if chosen and chosen[0] is not None:  # done anew, after a failure: it may have been written, too
                asking.finish_run(tables, chosen[0], epoch)
                return None
            return asking.finish_unless_cancelled(tables, run_id, epoch, choose)

        done = self.writer.put(work, last=True)
        done.add_done_callback(lambda ended: self._on_end_stored(run_id, chosen, ended.exception()))
        return done

    def events_added(self, recorder: EventBuffer) -> None:
        """A run has told something: store it soon."""
        self.telling.schedule(recorder)

    def follow_run(self, run_id: str, after: int) -> Follower[Any]:
        """Return a stream of what a run of whichever process tells after the event of that number."""
        return self.followers.follow(self, run_id, after)

    def _on_end_stored(self, run_id: str, chosen: list[StoredRun | None], error: BaseException | None) -> None:
        run = chosen[0] if chosen else None
        if run is not None:
            self._settle(run, error)
            if error is None:
                self.attendant.on_finished(run_id)

    def retry_in_background(self, run: StoredRun, error: BaseException) -> None:
        """Tell an end that isn't recorded, until it is."""
        self._settle(run, error)

    def save_run(self, run: StoredRun) -> Future[None]:
        """Record a run, and what it changes in its session. The end of a claimed one counts only in its epoch."""
        text = None if run.status.is_final else encode(run.output)

        def work(tables: SharedTables) -> list[str]:
            epoch = self.attendant.epoch_of(run.run_id)
            if epoch is not None and run.status.is_final:
                return asking.finish_run(tables, run, epoch)
            asking.replace_run(tables, run, text)
            return []

        def set_result(listeners: list[str]) -> None:
            if run.status.is_final:
                self.attendant.on_finished(run.run_id)
            for listener in listeners:
                self.place.wake(listener)

        done = _then(self.writer.put(work), set_result)
        if run.status.is_final:
            done.add_done_callback(lambda ended: self._settle(run, ended.exception()))
        return done

    def _settle(self, run: StoredRun, error: BaseException | None) -> None:
        if isinstance(error, LeaseLostError):  # trying again can't help
            self.attendant.on_finished(run.run_id)
            self.unwritten.forget(lambda one: one.run_id == run.run_id)
        else:
            self.unwritten.settle(run, error)

    # -- cancelling

    def is_owned_elsewhere(self, run_id: str) -> bool:
        """Whether another process has taken a run that lives here, which this one doesn't know yet."""
        return self.attendant.is_lost(run_id)

    @property
    def poll_is_overdue(self) -> bool:
        """Whether this process must have been frozen since it last looked at its runs."""
        return self.attendant.poll_is_overdue

    def poll_now(self) -> None:
        """Look at the runs of this process now."""
        self.attendant.poll_now()

    def may_be_lost(self, run_id: str) -> bool:
        """Whether that would have to be looked up."""
        return self.attendant.may_be_lost(run_id)

    def record_cancel(self, run_id: str, request: CancelRequest) -> None:
        """Record that a run is being cancelled from here."""
        self.attendant.on_cancel_applied(run_id, request)

        def work(tables: SharedTables) -> None:
            epoch = self.attendant.epoch_of(run_id)
            if epoch is not None:
                asking.record_cancel(tables, run_id, epoch, request)

        self.writer.put(work)

    def request_cancel(self, run_id: str, request: CancelRequest) -> CancelReceipt:
        """Cancel a run of whichever process."""
        channel.register(self.attendant)
        self.place.listen()
        listener = self.place.address
        asked: Callable[[SharedTables], asking.CancelOutcome] = lambda t: asking.request_cancel(  # noqa: E731
            t, run_id, request, listener
        )
        answer = self.writer.put(asked).result()  # the writer bounds it
        if answer.address is not None and answer.record_cancel is not None:
            self.place.wake(answer.address)
        if answer.outcome is Outcome.unknown or answer.row is None:
            return CancelReceipt(answer.outcome, run_id, lambda: None)
        status = RunStatus(answer.row.status)
        if answer.outcome is Outcome.finished:
            return CancelReceipt(answer.outcome, answer.run_id, lambda: status)
        live: Any = registry.get(answer.run_id)
        if (
            live is not None and live.store is self and answer.record_cancel is not None and not live.owned_elsewhere
        ):  # it has started here meanwhile
            live.apply_cancel_request(answer.record_cancel.request())
        reason = answer.record_cancel.request().reason if answer.record_cancel is not None else request.reason
        silent_at = time.monotonic() + ANSWER_TIMEOUT + (request.grace or 0.0)
        watch = self.attendant.watch(answer.run_id, CancelRecord.of(reason), silent_at)
        return CancelReceipt(answer.outcome, answer.run_id, lambda: watch.status, watch.record, watch.latch)

    # -- runs of processes that have died

    def take_orphans(self, kind: str, owner_id: str) -> list[StoredRun]:
        """Take the runs of a workflow that may go on here, and return them as far as they had come."""
        channel.register(self.attendant)
        self.place.listen()

        with self.place.reading() as tables:
            found = {row.run_id: row.process for row in find_orphans(tables, kind, owner_id)}

        def work(tables: SharedTables, run_id: str) -> StoredRun | None:
            self.attendant.heartbeat_if_due(tables)
            taken = asking.take_orphans(tables, run_id)
            if taken is None:
                return None
            self.attendant.on_dequeued(run_id, taken[0].epoch)
            return taken[1]

        runs: list[StoredRun] = []
        for run_id, done in begin_one_by_one(self.writer, found, work, "taken"):
            try:
                run = done.result()  # the writer bounds it
            except StoreError:  # it may yet be written, and then nobody works on the run: what comes after undoes it
                self._leave_lost(run_id, found[run_id])
                continue
            runs += [run] if run is not None else []
        return runs

    def _leave_lost(self, run_id: str, process: str | None) -> None:
        def work(tables: SharedTables) -> None:
            asking.leave_lost(tables, run_id, process)
            self.attendant.on_finished(run_id)

        self.writer.put(work)

    def fail_claimed_run(self, run_id: str, message: str) -> None:
        """End a run that was taken, and with which its workflow can't go on."""
        self.attendant.on_finished(run_id)
        self.writer.put(lambda tables: fail_run(tables, run_id, message)).result()

    def end_lost(self) -> list[str]:
        """End the runs whose processes have died, but for those that may go on; return their ids.

        Each tree in a transaction of its own: one that can't be ended keeps no other from its end.
        """
        with self.place.reading() as tables:
            doomed = _doomed(tables)
        ended = one_by_one(self.writer, dict.fromkeys(doomed.values()), _mark, "ended")
        failed = {root_run_id for root_run_id, done in ended if done is None}
        return [run_id for run_id, root_run_id in doomed.items() if root_run_id not in failed]

    def end_lost_soon(self) -> None:
        """Do the same without waiting, if there are any: when the file is opened."""
        try:
            with self.place.reading() as tables:
                doomed = _doomed(tables)
        except StoreError as error:  # whoever wants something of it will hear
            log.debug("%s", error)
            return
        begin_one_by_one(self.writer, dict.fromkeys(doomed.values()), _mark, "ended")

    def report(self) -> SchemaReport:
        """Look the tables over, and whether there are runs that have told their end and have none."""
        report = self.place.report()
        try:
            with self.place.reading() as tables:
                found = [row.run_id for row in tables.unsettled() if is_over(row, tables)]
        except StoreError as error:  # a table is missing
            log.debug("%s", error)
            found = []
        problems = [*report.problems]
        problems += [
            f"run {run_id} has a terminal event and no end: `desist db check --repair` ends it" for run_id in found
        ]
        return replace(report, problems=problems)

    def repair(self) -> list[str]:
        """End the runs that have told their end and have none, as they told it; return their ids."""
        with self.place.reading() as tables:
            found = {row.run_id: row.root_run_id for row in tables.unsettled() if is_over(row, tables)}
        one_by_one(self.writer, dict.fromkeys(found.values()), _mark, "repaired")
        return list(found)

    # -- the end

    def prune(self, older_than: float, *, runs: bool) -> PruneResult:
        """Forget what is old; see `BaseDb.prune`."""
        return prune(self.writer.put, older_than, runs=runs)

    def flush(self) -> bool:
        """Wait until everything that was left to be written is written, what runs have told, too."""
        self.telling.flush()
        return super().flush()

    def close(self) -> None:
        """Write what is left and let go of everything."""
        self.telling.flush()
        channel.unregister(self.attendant)
        channel.unregister(self.followers)
        if self.attendant.registered:
            self.writer.put_droppable(lambda tables: tables.release_owner(this_process()))
        super().close()
        self.followers.close()  # last: whoever reads on hears that it is closed


def _doomed(tables: SharedTables) -> dict[str, str]:
    """Return the runs that are to be ended because nobody else will, each with the root of its tree."""
    ended = [row for row in find_orphans(tables) if not is_resumable(row)]
    ended += [row for row in tables.unsettled() if is_over(row, tables)]
    return {row.run_id: row.root_run_id for row in ended}


def _mark(tables: SharedTables, root_run_id: str) -> bool:
    end_orphans(tables, root_run_id)
    return True


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
            log.exception("what was written could not be told")
            if not second.done():
                second.set_exception(mistake)

    first.add_done_callback(ended)
    return second
