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

from desist.cancel.receipt import CancelRecord, Latch
from desist.cancel.registry import registry
from desist.cancel.status import RunStatus
from desist.db.process.identity import about_to_start, this_process
from desist.db.process.notifier import channel
from desist.db.records.cancel_request import read_note
from desist.db.records.codec import decode_run
from desist.db.recovery.orphans import mark, reason_of, take
from desist.db.tables.base import RunRow, SharedTables
from desist.exceptions import StoreError
from desist.run.storage.values import StoredRequest

if TYPE_CHECKING:
    from desist.db.store.shared_table_store import SharedTableStore

__all__ = ["ANSWER", "Attendant", "Watch"]

log = logging.getLogger("desist.db")

#: Seconds for which looking goes on without a run: the next one needn't wake anybody.
AWAKE = 5.0
#: Seconds after which a look that failed is tried again.
RETRY = 0.25
#: Seconds between two looks at a run that this process has cancelled, at first and at most.
FIRST, SLOWEST = 0.01, 0.25
#: Seconds for which this process is believed to live, and between two times that it says so.
LEASE, BEAT = 15.0, 3.0
#: Seconds beyond the grace in which a process must have said that it knows of a cancel.
ANSWER = 2.0
#: The epoch of a run that this process has given back. No record has it.
GIVEN_BACK = -1


class Watch:
    """A run of another process that was cancelled from here."""

    def __init__(self, run_id: str, record: CancelRecord, silent_at: float) -> None:
        self.run_id, self.record, self.latch = run_id, record, Latch()
        self.status: RunStatus | None = RunStatus.cancelling
        self.silent_at = silent_at  #: when its process must have answered; seconds of `time.monotonic`
        self.busy = False  #: it is being ended from here
        self.pause = FIRST
        self.due = time.monotonic() + FIRST


class Attendant:
    """What this process has to do with the runs of one store."""

    def __init__(self, store: SharedTableStore) -> None:
        self._store = store
        self.start_anew()

    def start_anew(self) -> None:
        """Forget everything: in a forked child the runs are the parent's."""
        self._lock = threading.Lock()
        self._epochs: dict[str, int] = {}
        self._durable: set[str] = set()
        self._taken: set[str] = set()
        self._told: dict[str, tuple[Any, ...]] = {}
        self._watches: dict[int, Watch] = {}
        self._beat_at = self._look_at = self._awake_until = 0.0
        self._sure_at = 0.0  #: when it was last looked whose runs these are; seconds of `time.monotonic`
        self._suspicious = False
        self._beating = False  #: a heartbeat is on its way to the disk
        self.registered = False

    # -- runs of this process

    def claimed(self, run_id: str, epoch: int) -> None:
        """This process works on a run."""
        with self._lock:
            self._epochs[run_id] = epoch
        now = time.monotonic()
        asleep, self._awake_until = now >= self._awake_until, now + AWAKE
        if asleep:
            channel.wake_here()

    def took(self, run_id: str, epoch: int) -> None:
        """This process has taken a run, and is going to start it."""
        self._taken.add(run_id)
        about_to_start.add(run_id)
        self.claimed(run_id, epoch)

    def has_taken(self, run_id: str) -> bool:
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
            about_to_start.discard(run_id)
            if self._epochs.get(run_id) == epoch:
                self._sure_at = min(self._sure_at, written_at) if self._durable else written_at
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
            return run_id in self._durable and time.monotonic() >= self._sure_at + LEASE

    @property
    def poll_is_overdue(self) -> bool:
        """Whether nothing was looked at for half a lease, although looks are made four times a second.

        Then this process was frozen, and whatever comes to its turn before the thread that looks must look itself.
        """
        return bool(self._durable) and time.monotonic() >= self._sure_at + LEASE / 2

    def poll_now(self) -> None:
        """Do what the next look would do, in this thread. Several threads may: what was done isn't done again."""
        now = time.monotonic()
        try:
            self._look_after_own(every=True)
        except StoreError as error:  # work goes on while the database is away
            log.debug("%s can't be looked at: %s", self._store.place.name, error)
            self._sure_at = max(self._sure_at, now)

    def obeyed(self, run_id: str, request: StoredRequest) -> None:
        """A run is being cancelled here already."""
        self._told[run_id] = (request.grace, request.force)

    def over(self, run_id: str) -> None:
        """The end of a run is recorded."""
        with self._lock:
            self._taken.discard(run_id)
            about_to_start.discard(run_id)
            self._epochs.pop(run_id, None)
            self._durable.discard(run_id)
            self._told.pop(run_id, None)

    def gave_back(self, run_id: str) -> None:
        """A run goes on elsewhere: what is still written about it from here is refused."""
        with self._lock:
            self._epochs[run_id] = GIVEN_BACK
            self._durable.discard(run_id)
            self._told.pop(run_id, None)

    def suspect(self) -> None:
        """Something could not be written: look whether a run is somebody else's."""
        self._suspicious = True
        channel.wake_here()

    # -- runs of others

    def watch(self, run_id: str, record: CancelRecord, silent_at: float) -> Watch:
        """Look after a run that was cancelled from here, until it has settled."""
        watch = Watch(run_id, record, silent_at)
        with self._lock:
            self._watches[id(watch)] = watch
        channel.wake_here()
        return watch

    def forget(self, watch: Any) -> None:
        """Nobody waits for that run any more."""
        with self._lock:
            self._watches.pop(id(watch), None)

    # -- saying that this process lives

    def beat_if_due(self, tables: SharedTables) -> None:
        """Say it, if that is due; in the writer. Until it is known to be committed it is said again."""
        if time.time() >= self._beat_at:
            self.registered = True
            tables.beat(this_process(), self._store.place.address, LEASE)

    def _beat(self) -> None:
        """Have it said. Only what was committed counts: a transaction may be undone through another job in it."""
        self._beating, at = True, time.time()

        def ended(done: Future[None]) -> None:
            if done.exception() is None:
                self._beat_at = at + BEAT
            self._beating = False

        self._store.writer.put(self.beat_if_due).add_done_callback(ended)

    # -- looking

    def look(self, woken: bool) -> float:
        """Do what is due; return when to look again, in seconds of `time.monotonic`."""
        now = time.monotonic()
        try:
            timely = now >= self._look_at
            if self._epochs and (woken or timely):
                self._look_after_own(every=self._suspicious or timely)
            if timely:
                self._look_at = time.monotonic() + self._store.place.look_every
            if self._epochs and not self._beating and time.time() >= self._beat_at:
                self._beat()
            self._look_after_others(woken)
        except StoreError as error:
            log.debug("%s can't be looked at: %s", self._store.place.name, error)
            self._sure_at = now  # looking again, for a cancel, would fail as well, and take its time
            return now + RETRY
        due = [watch.due for watch in list(self._watches.values())]
        awake = self._epochs or now < self._awake_until
        return min([max(self._look_at, now + RETRY / 10) if awake else math.inf, *due])

    def _look_after_own(self, every: bool) -> None:
        """Carry out what others ask for; with `every`, see that each run is still this process's."""
        process, now = this_process(), time.monotonic()
        with self._lock:
            epochs = {run_id: self._epochs[run_id] for run_id in self._durable} if every else {}
        self._suspicious = self._suspicious and not every
        with self._store.place.looking() as tables:
            asked = tables.asked(process)
            known = tables.get_runs(list(epochs)) if epochs else []
        for row in asked:
            self._obey(row)
        for row in known:
            if row.epoch != epochs[row.run_id] or row.is_final:
                self._lose(row, epochs[row.run_id])
        with self._lock:
            if every and self._durable <= epochs.keys():  # else this look wasn't about all of them
                self._sure_at = max(self._sure_at, now)

    def _obey(self, row: RunRow) -> None:
        run: Any = registry.get(row.run_id)
        if run is None or run.store is not self._store or row.cancel is None:
            return
        request = read_note(row.cancel).request()
        how = (request.grace, request.force)
        if self._told.get(row.run_id) != how:
            self._told[row.run_id] = how
            run.obey(request)

    def _lose(self, row: RunRow, epoch: int) -> None:
        """Another process has taken a run that is live here."""
        run: Any = registry.get(row.run_id)
        if self._epochs.get(row.run_id) != epoch or run is None or run.store is not self._store:
            return
        if row.cancel is not None:
            run.obey(read_note(row.cancel).request())
        elif row.epoch != epoch:
            run.lose(f"another process has taken the run {row.run_id} over")

    def _look_after_others(self, woken: bool) -> None:
        now = time.monotonic()
        with self._lock:
            due = [watch for watch in self._watches.values() if woken or watch.due <= now]
        if not due:
            return
        with self._store.place.looking() as tables:
            rows = {row.run_id: row for row in tables.get_runs(list({watch.run_id for watch in due}))}
            silent = {row.run_id for row in rows.values() if not row.is_final and reason_of(row, tables) is not None}
            ended = {row.run_id: tables.get_run(row.run_id) for row in rows.values() if row.is_final}
        for watch in due:
            self._see(watch, rows.get(watch.run_id), watch.run_id in silent, ended.get(watch.run_id))
            watch.pause = FIRST if woken else min(2 * watch.pause, SLOWEST)
            watch.due = time.monotonic() + watch.pause

    def _see(self, watch: Watch, row: RunRow | None, dead: bool, ended: RunRow | None) -> None:
        if row is None or ended is not None:
            with self._lock:
                self._watches.pop(id(watch), None)
            _settle(watch, ended)
            return
        unanswered = row.cancel is not None and read_note(row.cancel).delivered_at is None
        late = unanswered and time.monotonic() >= watch.silent_at
        if (dead or late) and not watch.busy:
            watch.busy = True
            end = mark if dead else take
            done = self._store.writer.put(lambda tables: end(tables, row.root_run_id))
            done.add_done_callback(lambda _: self._tried(watch))

    def _tried(self, watch: Watch) -> None:
        watch.busy, watch.due = False, 0.0
        channel.wake_here()


def _settle(watch: Watch, row: RunRow | None) -> None:
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
