"""A store on tables that processes share: a facade that meets `SharedStore` and `QueueStore` by delegation.

No part sees the facade, or another part that is not a parameter of it: `ownership` claims, ends and cancels runs,
`runs` reads them, `sessions` has the sessions, `queue` the runs that wait for a worker, `workers` what workers need,
`flusher` stores events and `followers` reads them, `orphans` ends the runs of dead processes. `leases` knows the runs
that this process owns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING

from desist.db.backends.base import SharedBackend
from desist.db.coordination.lease_keeper import LeaseKeeper
from desist.db.events.flusher import EventFlusher
from desist.db.process.identity import this_process
from desist.db.process.live_runs import LiveRuns
from desist.db.process.notifier import channel
from desist.db.store.bulk_cancel import BulkCancel
from desist.db.store.claim_service import ClaimService
from desist.db.store.follower_hub import FollowerHub
from desist.db.store.orphan_sweeper import OrphanSweeper
from desist.db.store.pause_part import PausePart
from desist.db.store.pruning import PruneResult, prune
from desist.db.store.queue_part import QueuePart
from desist.db.store.run_table import RunTable
from desist.db.store.session_table import SessionTable
from desist.db.store.table_store import CLOSE_TIMEOUT
from desist.db.store.worker_part import WorkerPart
from desist.db.writer import Writer

if TYPE_CHECKING:
    from desist.db.tables.sql import SqlTables

__all__ = ["SharedTableStore", "as_found"]

_as_found: ContextVar[bool] = ContextVar("desist_as_found", default=False)


@contextmanager
def as_found() -> Iterator[None]:
    """Open databases in this block without ending the orphans in them."""
    token = _as_found.set(True)
    try:
        yield
    finally:
        _as_found.reset(token)


class SharedTableStore:
    """Runs and sessions in tables that processes share. Parameters as for `TableStore`."""

    blocking = True
    shared = True

    def __init__(self, backend: SharedBackend, write_timeout: float) -> None:
        self.backend, self.write_timeout = backend, write_timeout
        self.writer = writer = Writer(backend, write_timeout)
        live = LiveRuns(self)
        self.leases = LeaseKeeper(backend, writer, live)
        self.ownership = ClaimService(backend, writer, self.leases, live, self._on_ended)
        self.unwritten = unwritten = self.ownership.unwritten
        self.bulk_cancel = BulkCancel(backend, writer, self.leases, self.ownership)
        self.runs = RunTable(backend, writer, live, unwritten)
        self.sessions = SessionTable(backend, writer, unwritten)
        self.queue = QueuePart(backend, writer, self.leases)
        self.workers = WorkerPart(backend, writer, self.leases, self.queue)
        self.paused = PausePart(backend, writer, self.leases)
        self.flusher = EventFlusher(writer, self.leases.epoch_of, self.leases.check_ownership_soon, self._notify)
        self.leases.on_notified = self.flusher.on_notified
        self.followers = FollowerHub(backend, writer, live, unwritten.get)
        self.orphans = OrphanSweeper(backend, writer)
        self._delegate()
        if not _as_found.get():
            self.orphans.end_lost_soon()
            self.paused.start()

    def _delegate(self) -> None:
        runs, sessions, ownership, leases, queue = self.runs, self.sessions, self.ownership, self.leases, self.queue
        # RunStore
        self.save_run, self.add_part = ownership.save_run, ownership.add_part
        self.load_run, self.delete_run, self.unwritten_end = runs.load_run, runs.delete_run, runs.unwritten_end
        self.session_runs, self.list_runs = runs.session_runs, runs.list_runs
        self.reserve_run, self.end_reservation = runs.reserve_run, runs.end_reservation
        self.load_session, self.save_session = sessions.load_session, sessions.save_session
        self.update_session, self.delete_session = sessions.update_session, sessions.delete_session
        self.list_sessions, self.claim_session = sessions.list_sessions, sessions.claim_session
        # SharedStore
        self.claim_run, self.end_run = ownership.claim_run, ownership.end_run
        self.retry_in_background = ownership.settle
        self.record_cancel, self.request_cancel = ownership.record_cancel, ownership.request_cancel
        self.take_orphans, self.fail_claimed_run = ownership.take_orphans, ownership.fail_claimed_run
        self.is_owned_elsewhere, self.may_be_lost, self.poll_now = leases.is_lost, leases.may_be_lost, leases.poll_now
        self.events_added, self.follow_run = self.flusher.events_added, self.followers.follow
        # QueueStore
        self.queue_runs, self.take_queued, self.give_back = queue.queue_runs, queue.take_queued, queue.give_back
        self.release = queue.release
        self.store_schedule, self.queue_statistics = self.workers.store_schedule, self.workers.queue_statistics
        self.statuses, self.request_cancels = queue.statuses, self.bulk_cancel.request
        self.watch_end, self.remove_watch, self.queued_runs = queue.watch_end, queue.remove_watch, queue.queued_runs
        # databases
        self.end_lost, self.end_lost_soon = self.orphans.end_lost, self.orphans.end_lost_soon
        self.report, self.repair = self.orphans.report, self.orphans.repair

    def _notify(self, addresses: Collection[str]) -> None:
        """Make the followers of runs read, here and in other processes. After the commit, in the writer's thread."""
        self.followers.on_stored_here()
        for address in addresses:
            if not self.backend.wake(address):
                self.writer.put_droppable(partial(_forget_address, address))

    def _on_ended(self, run_id: str, addresses: list[str]) -> None:
        self.flusher.forget(run_id)
        self._notify(addresses)

    @property
    def poll_is_overdue(self) -> bool:
        """Whether this process must have been frozen since the last poll."""
        return self.leases.poll_is_overdue

    def prune(self, older_than: float, *, runs: bool) -> PruneResult:
        """Delete what is old; see `BaseDb.prune`."""
        return prune(self.writer.put, older_than, runs=runs)

    def flush(self) -> bool:
        """Wait until all pending writes are done, events too; return whether they are."""
        self.flusher.flush()
        done = self.writer.flush()
        if done and self.ownership.has_checkpoints:  # of runs whose claims were written just now
            done = self.writer.flush()
        return done

    def close(self) -> None:
        """Do the pending writes and close everything. The store raises `StoreError` afterwards.

        The order: events go to the writer, polling ends, because it would write, the row of this process is deleted
        with the last transaction, the writer ends, the backend closes. Followers are woken last, because they read once
        more.
        """
        self.flusher.flush()
        channel.unregister(self.leases)
        channel.unregister(self.followers)
        channel.unregister(self.paused)
        if self.leases.registered:
            self.writer.put_droppable(lambda tables: tables.owners.delete(this_process()))
        self.writer.close(max(self.write_timeout, CLOSE_TIMEOUT))
        self.unwritten.forget()
        self.backend.close()
        self.followers.close()


def _forget_address(address: str, tables: SqlTables) -> None:
    tables.followers.delete_address(address)
