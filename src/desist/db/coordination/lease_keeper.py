"""Looking after the runs of one database in this process: those that it works on, and those that it has cancelled.

Called by the channel's thread, when somebody has woken it and now and then. It carries out what other processes ask
for, stops what another process has taken, says that this process lives, and ends runs whose process doesn't answer.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from desist.cancel.receipt import CancelRecord
from desist.cancel.registry import registry
from desist.cancel.status import RunStatus
from desist.db.process.identity import starting_runs, this_process
from desist.db.process.notifier import channel
from desist.db.records.cancel_request import decode_cancel_request
from desist.db.records.codec import decode_run
from desist.db.recovery.orphans import end_orphans, end_unresponsive, orphan_reason
from desist.db.tables.base import RunRow, SharedTables
from desist.exceptions import StoreError
from desist.run.storage.values import CancelRequest
from desist.runtime.latch import Latch

if TYPE_CHECKING:
    from desist.db.store.shared_table_store import SharedTableStore

__all__ = ["ANSWER_TIMEOUT", "CancelWatch", "LeaseKeeper"]

log = logging.getLogger("desist.db")

#: Seconds for which looking goes on without a run: the next one needn't wake anybody.
POLL_LINGER = 5.0
#: Seconds after which a look that failed is tried again.
RETRY = 0.25
#: Seconds between two looks at a run that this process has cancelled, at first and at most.
FIRST, SLOWEST = 0.01, 0.25
#: Seconds for which this process is believed to live, and between two times that it says so.
LEASE, HEARTBEAT_INTERVAL = 15.0, 3.0
#: Seconds beyond the grace in which a process must have said that it knows of a cancel.
ANSWER_TIMEOUT = 2.0
#: The epoch of a run that this process has given back. No record has it.
GIVEN_BACK = -1


class CancelWatch:
    """A run of another process that was cancelled from here."""

    def __init__(self, run_id: str, record: CancelRecord, answer_deadline: float) -> None:
        self.run_id, self.record, self.latch = run_id, record, Latch()
        self.status: RunStatus | None = RunStatus.cancelling
        self.answer_deadline = answer_deadline  #: when its process must have answered; seconds of `time.monotonic`
        self.busy = False  #: it is being ended from here
        self.pause = FIRST
        self.due = time.monotonic() + FIRST


class LeaseKeeper:
    """What this process has to do with the runs of one store."""

    def __init__(self, store: SharedTableStore) -> None:
        self._store = store
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Forget everything: in a forked child the runs are the parent's."""
        self._lock = threading.Lock()
        self._epochs: dict[str, int] = {}
        self._durable: set[str] = set()
        self._taken: set[str] = set()
        self._applied_requests: dict[str, tuple[Any, ...]] = {}
        self._watches: dict[int, CancelWatch] = {}
        self._beat_at = self._poll_store = self._awake_until = 0.0
        self._ownership_checked_at = 0.0  #: when it was last looked whose runs these are; seconds of `time.monotonic`
        self._suspicious = False
        self._beating = False  #: a heartbeat is on its way to the disk
        self.registered = False

    # -- runs of this process

    def on_claimed(self, run_id: str, epoch: int) -> None:
        """This process works on a run."""
        with self._lock:
            self._epochs[run_id] = epoch
        now = time.monotonic()
        asleep, self._awake_until = now >= self._awake_until, now + POLL_LINGER
        if asleep:
            channel.notify_self()

    def on_dequeued(self, run_id: str, epoch: int) -> None:
        """This process has taken a run, and is going to start it."""
        self._taken.add(run_id)
        starting_runs.add(run_id)
        self.on_claimed(run_id, epoch)

    def has_dequeued(self, run_id: str) -> bool:
        """Whether a run was taken and isn't started yet: then it may only be gone on with as it was."""
        return run_id in self._taken

    def claim_is_durable(self, run_id: str, epoch: int, written_at: float) -> None:
        """Others see it now.

        Parameters:
            written_at: when the claim was written, in seconds of `time.monotonic`. This process may have been frozen
                since, and a look in between wasn't about this run.
        """
        with self._lock:
            self._taken.discard(run_id)
            starting_runs.discard(run_id)
            if self._epochs.get(run_id) == epoch:
                self._ownership_checked_at = (
                    min(self._ownership_checked_at, written_at) if self._durable else written_at
                )
                self._durable.add(run_id)

    def epoch_of(self, run_id: str) -> int | None:
        """Return in which epoch this process may write about a run; None for one that it hasn't claimed."""
        return self._epochs.get(run_id)

    def is_lost(self, run_id: str) -> bool:
        """Whether another process has a run that lives here: this one was frozen, and hasn't looked since."""
        if not self.may_be_lost(run_id):
            return False
        epoch = self.epoch_of(run_id)
        try:
            with self._store.place.reading() as tables:
                rows = tables.get_runs([run_id])
        except StoreError as error:
            log.debug("%s can't be looked at: %s", self._store.place.name, error)
            return False
        return epoch is not None and any(row.epoch != epoch or row.is_final for row in rows)

    def may_be_lost(self, run_id: str) -> bool:
        """Whether it is so long since it was looked that another process may have taken a run."""
        with self._lock:
            return run_id in self._durable and time.monotonic() >= self._ownership_checked_at + LEASE

    @property
    def poll_is_overdue(self) -> bool:
        """Whether nothing was looked at for half a lease, although looks are made four times a second.

        Then this process was frozen, and whatever comes to its turn before the thread that looks must look itself.
        """
        return bool(self._durable) and time.monotonic() >= self._ownership_checked_at + LEASE / 2

    def poll_now(self) -> None:
        """Do what the next look would do, in this thread. Several threads may: what was done isn't done again."""
        now = time.monotonic()
        try:
            self._poll_own_runs(every=True)
        except StoreError as error:  # work goes on while the database is away
            log.debug("%s can't be looked at: %s", self._store.place.name, error)
            self._ownership_checked_at = max(self._ownership_checked_at, now)

    def on_cancel_applied(self, run_id: str, request: CancelRequest) -> None:
        """A run is being cancelled here already."""
        self._applied_requests[run_id] = (request.grace, request.force)

    def on_finished(self, run_id: str) -> None:
        """The end of a run is recorded."""
        with self._lock:
            self._taken.discard(run_id)
            starting_runs.discard(run_id)
            self._epochs.pop(run_id, None)
            self._durable.discard(run_id)
            self._applied_requests.pop(run_id, None)

    def on_handed_over(self, run_id: str) -> None:
        """A run goes on elsewhere: what is still written about it from here is refused."""
        with self._lock:
            self._epochs[run_id] = GIVEN_BACK
            self._durable.discard(run_id)
            self._applied_requests.pop(run_id, None)

    def check_ownership_soon(self) -> None:
        """Something could not be written: look whether a run is somebody else's."""
        self._suspicious = True
        channel.notify_self()

    # -- runs of others

    def watch(self, run_id: str, record: CancelRecord, answer_deadline: float) -> CancelWatch:
        """Look after a run that was cancelled from here, until it has settled."""
        watch = CancelWatch(run_id, record, answer_deadline)
        with self._lock:
            self._watches[id(watch)] = watch
        channel.notify_self()
        return watch

    def remove_watch(self, watch: Any) -> None:
        """Nobody waits for that run any more."""
        with self._lock:
            self._watches.pop(id(watch), None)

    # -- saying that this process lives

    def heartbeat_if_due(self, tables: SharedTables) -> None:
        """Say it, if that is due; in the writer. Until it is known to be committed it is said again."""
        if time.time() >= self._beat_at:
            self.registered = True
            tables.record_heartbeat(this_process(), self._store.place.address, LEASE)

    def _beat(self) -> None:
        """Have it said. Only what was committed counts: a transaction may be undone through another job in it."""
        self._beating, at = True, time.time()

        def ended(done: Future[None]) -> None:
            if done.exception() is None:
                self._beat_at = at + HEARTBEAT_INTERVAL
            self._beating = False

        self._store.writer.put(self.heartbeat_if_due).add_done_callback(ended)

    # -- looking

    def poll(self, woken: bool) -> float:
        """Do what is due; return when to look again, in seconds of `time.monotonic`."""
        now = time.monotonic()
        try:
            timely = now >= self._poll_store
            if self._epochs and (woken or timely):
                self._poll_own_runs(every=self._suspicious or timely)
            if timely:
                self._poll_store = time.monotonic() + self._store.place.poll_interval
            if self._epochs and not self._beating and time.time() >= self._beat_at:
                self._beat()
            self._poll_watches(woken)
        except StoreError as error:
            log.debug("%s can't be looked at: %s", self._store.place.name, error)
            self._ownership_checked_at = now  # looking again, for a cancel, would fail as well, and take its time
            return now + RETRY
        due = [watch.due for watch in list(self._watches.values())]
        awake = self._epochs or now < self._awake_until
        return min([max(self._poll_store, now + RETRY / 10) if awake else math.inf, *due])

    def _poll_own_runs(self, every: bool) -> None:
        """Carry out what others ask for; with `every`, see that each run is still this process's."""
        process, now = this_process(), time.monotonic()
        with self._lock:
            epochs = {run_id: self._epochs[run_id] for run_id in self._durable} if every else {}
        self._suspicious = self._suspicious and not every
        with self._store.place.reading_shared() as tables:
            asked = tables.cancelled_runs_of(process)
            known = tables.get_runs(list(epochs)) if epochs else []
        for row in asked:
            self._apply_cancel(row)
        for row in known:
            if row.epoch != epochs[row.run_id] or row.is_final:
                self._drop_lost_run(row, epochs[row.run_id])
        with self._lock:
            if every and self._durable <= epochs.keys():  # else this look wasn't about all of them
                self._ownership_checked_at = max(self._ownership_checked_at, now)

    def _apply_cancel(self, row: RunRow) -> None:
        run: Any = registry.get(row.run_id)
        if run is None or run.store is not self._store or row.cancel is None:
            return
        request = decode_cancel_request(row.cancel).request()
        how = (request.grace, request.force)
        if self._applied_requests.get(row.run_id) != how:
            self._applied_requests[row.run_id] = how
            run.apply_cancel_request(request)

    def _drop_lost_run(self, row: RunRow, epoch: int) -> None:
        """Another process has taken a run that is live here."""
        run: Any = registry.get(row.run_id)
        if self._epochs.get(row.run_id) != epoch or run is None or run.store is not self._store:
            return
        if row.cancel is not None:
            run.apply_cancel_request(decode_cancel_request(row.cancel).request())
        elif row.epoch != epoch:
            run.ownership_lost(f"another process has taken the run {row.run_id} over")

    def _poll_watches(self, woken: bool) -> None:
        now = time.monotonic()
        with self._lock:
            due = [watch for watch in self._watches.values() if woken or watch.due <= now]
        if not due:
            return
        with self._store.place.reading_shared() as tables:
            rows = {row.run_id: row for row in tables.get_runs(list({watch.run_id for watch in due}))}
            silent = {
                row.run_id for row in rows.values() if not row.is_final and orphan_reason(row, tables) is not None
            }
            ended = {row.run_id: tables.get_run(row.run_id) for row in rows.values() if row.is_final}
        for watch in due:
            self._check_watch(watch, rows.get(watch.run_id), watch.run_id in silent, ended.get(watch.run_id))
            watch.pause = FIRST if woken else min(2 * watch.pause, SLOWEST)
            watch.due = time.monotonic() + watch.pause

    def _check_watch(self, watch: CancelWatch, row: RunRow | None, dead: bool, ended: RunRow | None) -> None:
        if row is None or ended is not None:
            with self._lock:
                self._watches.pop(id(watch), None)
            _settle(watch, ended)
            return
        unanswered = row.cancel is not None and decode_cancel_request(row.cancel).delivered_at is None
        late = unanswered and time.monotonic() >= watch.answer_deadline
        if (dead or late) and not watch.busy:
            watch.busy = True
            end = end_orphans if dead else end_unresponsive
            done = self._store.writer.put(lambda tables: end(tables, row.root_run_id))
            done.add_done_callback(lambda _: self._on_forced_end(watch))

    def _on_forced_end(self, watch: CancelWatch) -> None:
        watch.busy, watch.due = False, 0.0
        channel.notify_self()


def _settle(watch: CancelWatch, row: RunRow | None) -> None:
    """Fill the receipt with what is recorded, and wake whoever waits."""
    watch.status = RunStatus(row.status) if row is not None else None
    if row is not None:
        try:
            record = decode_run(row).cancel
        except StoreError as error:
            log.error("%s", error)
            record = None
        for name in record.__slots__ if record is not None else ():
            setattr(watch.record, name, getattr(record, name))
    watch.latch.set()
