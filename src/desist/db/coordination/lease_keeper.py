"""`LeaseKeeper`: the leases of the runs that this process owns, and what other processes ask of them.

Threads: `poll` is called by the notifier's thread, when this process is notified and at intervals: it applies the
cancels that others have stored, stops runs that others have taken over, renews the lease with a heartbeat, and polls
the runs that were cancelled from here. `poll_now` does the same for the runs of this process in any thread; each cancel
is applied once, see `OwnedRuns.mark_applied`. `on_claimed` and `heartbeat_if_due` are called in the writer's thread,
within a transaction that may be repeated. Nothing here waits for the writer: its jobs are given to it and not waited
for.

The order of a lease: the heartbeat is stored in the transaction of the first claim, or before it, so no process ever
sees a run whose owner has no lease. A process that was frozen for longer than its lease learns at its next poll, or
when it confirms an end, that another process owns the run; the epoch refuses what it writes until then.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from desist.cancel.receipt import CancelRecord
from desist.db.backends.base import SharedBackend
from desist.db.coordination.cancel_watches import CancelWatch, CancelWatches
from desist.db.coordination.owned_runs import OwnedRuns
from desist.db.process.identity import this_process
from desist.db.process.notifier import channel
from desist.db.records.cancel_request import decode_cancel_request
from desist.db.tables.base import RunRow
from desist.db.tables.sql import SqlTables
from desist.exceptions import StoreError
from desist.run.storage.values import CancelRequest

if TYPE_CHECKING:
    from desist.db.process.live_runs import LiveRuns
    from desist.db.writer import Writer

__all__ = ["LeaseKeeper"]

log = logging.getLogger("desist.db")

#: Seconds for which polling continues without a run, so that the next run need not wake the thread.
POLL_LINGER = 5.0
#: Seconds after which a poll that failed is repeated.
RETRY = 0.25
#: Seconds of a lease, and between two heartbeats.
LEASE, HEARTBEAT_INTERVAL = 15.0, 3.0


class LeaseKeeper:
    """The leases of one store.

    Parameters:
        backend, writer: the storage, and its writer.
        live: the live runs of the store.
    """

    def __init__(self, backend: SharedBackend, writer: Writer, live: LiveRuns) -> None:
        self._backend, self._writer, self._live = backend, writer, live
        self.on_notified: Callable[[], object] = lambda: None  #: called when this process is notified and owns runs
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Forget everything: in a forked child the runs are the parent's."""
        self.owned = OwnedRuns()
        self._watches = CancelWatches(self._backend, self._writer)
        self._beat_at = self._poll_store = self._awake_until = 0.0
        self._suspicious = False  #: a write was refused: verify all runs at the next poll
        self._beating = False  #: a heartbeat is on its way to the disk
        self.registered = False

    def start(self) -> None:
        """Make sure that this process polls, and is woken by others. Before the record names it. Idempotent."""
        channel.register(self)
        self._backend.listen()

    # -- runs of this process

    def on_claimed(self, run_id: str, epoch: int, *, taken: bool = False, submitter: str | None = None) -> None:
        """Record that this process works on a run. In the writer, before the claim is committed.

        Parameters:
            taken: the run was dequeued or recovered, and will be started here.
            submitter: the address of the process to notify of the end.
        """
        self.owned.add(run_id, epoch, taken=taken, submitter=submitter)
        now = time.monotonic()
        asleep, self._awake_until = now >= self._awake_until, now + POLL_LINGER
        if asleep:
            channel.notify_self()

    def epoch_of(self, run_id: str) -> int | None:
        """Return the epoch in which this process may write about a run; None for one that it hasn't claimed."""
        return self.owned.epoch_of(run_id)

    def is_lost(self, run_id: str) -> bool:
        """Whether another process has taken a run that lives here. Reads the record only if the lease may be over."""
        if not self.may_be_lost(run_id):
            return False
        epoch = self.epoch_of(run_id)
        try:
            with self._backend.reading() as tables:
                rows = tables.runs.headers([run_id])
        except StoreError as error:
            log.debug("%s can't be read: %s", self._backend.name, error)
            return False
        return epoch is not None and any(row.epoch != epoch or row.is_final for row in rows)

    def may_be_lost(self, run_id: str) -> bool:
        """Whether ownership was verified so long ago that another process may have taken a run."""
        owned = self.owned.get(run_id)
        return owned is not None and owned.durable and time.monotonic() >= self.owned.checked_at + LEASE

    @property
    def poll_is_overdue(self) -> bool:
        """Whether ownership wasn't verified for half a lease, although polls are made four times a second.

        Then this process was frozen, and a thread that runs before the notifier's must poll itself.
        """
        return self.owned.any_durable and time.monotonic() >= self.owned.checked_at + LEASE / 2

    def poll_now(self) -> None:
        """Poll the runs of this process, in this thread. Several threads may: what was applied isn't applied again."""
        now = time.monotonic()
        try:
            self._poll_own_runs(every=True)
        except StoreError as error:  # runs go on while the database is away
            log.debug("%s can't be read: %s", self._backend.name, error)
            self.owned.checked_at = max(self.owned.checked_at, now)

    def on_cancel_applied(self, run_id: str, request: CancelRequest) -> None:
        """Record that a run is being cancelled from here: the poll must not apply that cancel again."""
        self.owned.mark_applied(run_id, (request.grace, request.force), begun=True)

    def check_ownership_soon(self) -> None:
        """Verify ownership at the next poll, because a write was refused. From any thread; doesn't wait."""
        self._suspicious = True
        channel.notify_self()

    # -- runs of other processes

    def watch(self, run_id: str, record: CancelRecord, answer_deadline: float) -> CancelWatch:
        """Poll a run that was cancelled from here, until it has settled."""
        watch = CancelWatch(run_id, record, answer_deadline, self)
        self._watches.add(watch)
        return watch

    def remove_watch(self, watch: Any) -> None:
        """Stop polling for a watch."""
        self._watches.remove(watch)

    # -- heartbeat

    def heartbeat_if_due(self, tables: SqlTables) -> None:
        """Renew the lease, if that is due. In the writer.

        The due time moves only once a heartbeat is committed (`_beat`): the transaction may be rolled back because of
        another job in it. Until then each transaction repeats it.
        """
        if time.monotonic() >= self._beat_at:
            self.registered = True
            tables.owners.heartbeat(this_process(), self._backend.address, LEASE)

    def _beat(self) -> None:
        self._beating, at = True, time.monotonic()

        def ended(done: Future[None]) -> None:
            if done.exception() is None:
                self._beat_at = at + HEARTBEAT_INTERVAL
            self._beating = False

        self._writer.put(self.heartbeat_if_due).add_done_callback(ended)

    # -- polling, in the notifier's thread

    def poll(self, woken: bool) -> float:
        """Do what is due; return when to poll again, in seconds of `time.monotonic`."""
        now = time.monotonic()
        try:
            if woken and self.owned:
                self.on_notified()
            timely = now >= self._poll_store
            if self.owned and (woken or timely):
                self._poll_own_runs(every=self._suspicious or timely)
            if timely:
                self._poll_store = time.monotonic() + self._backend.poll_interval
            if self.owned and not self._beating and time.monotonic() >= self._beat_at:
                self._beat()
            self._watches.poll(woken)
        except StoreError as error:
            log.debug("%s can't be read: %s", self._backend.name, error)
            self.owned.checked_at = now  # a read made for a cancel would fail as well, and take as long
            return now + RETRY
        awake = self.owned or now < self._awake_until
        return min([max(self._poll_store, now + RETRY / 10) if awake else math.inf, *self._watches.due_times()])

    def _poll_own_runs(self, every: bool) -> None:
        """Apply the cancels that others have recorded; with `every`, verify that each run is still this process's."""
        process, now = this_process(), time.monotonic()
        epochs = self.owned.durable_epochs() if every else {}
        self._suspicious = self._suspicious and not every
        with self._backend.reading_shared() as tables:
            cancelled = tables.runs.cancelled_of(process)
            known = tables.runs.headers(list(epochs)) if epochs else []
        for row in cancelled:
            self._apply_cancel(row)
        for row in known:
            if row.epoch != epochs[row.run_id] or row.is_final:
                self._drop_lost_run(row, epochs[row.run_id])
        if every:
            self.owned.mark_checked(epochs, now)

    def _apply_cancel(self, row: RunRow) -> None:
        run = self._live.get(row.run_id)
        if run is None or row.cancel is None:
            return
        request = decode_cancel_request(row.cancel).request()
        if self.owned.mark_applied(row.run_id, (request.grace, request.force)):
            run.apply_cancel_request(request)

    def _drop_lost_run(self, row: RunRow, epoch: int) -> None:
        """Stop a run that is live here and that another process has taken. No-op if it was claimed anew meanwhile."""
        run = self._live.get(row.run_id)
        if self.epoch_of(row.run_id) != epoch or run is None:
            return
        if row.cancel is not None:
            run.apply_cancel_request(decode_cancel_request(row.cancel).request())
        elif row.epoch != epoch:
            run.ownership_lost(f"another process has taken the run {row.run_id} over")
