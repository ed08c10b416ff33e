"""`CancelWatches`: runs of other processes that were cancelled from here. Polled until they settle; a run whose process
does not respond is ended from here.

`poll` is called by the notifier's thread only; `add` and `remove` by any thread. What a poll finds fills the receipt.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from desist.cancel.receipt import CancelRecord
from desist.cancel.status import RunStatus
from desist.db.backends.base import SharedBackend
from desist.db.process.notifier import channel
from desist.db.records.cancel_request import decode_cancel_request
from desist.db.records.codec import decode_run
from desist.db.recovery.orphans import end_orphans, end_unresponsive, orphan_reason
from desist.db.tables.base import RunRow
from desist.exceptions import StoreError
from desist.runtime.latch import Latch

if TYPE_CHECKING:
    from desist.db.writer import Writer

__all__ = ["ANSWER_TIMEOUT", "CancelWatch", "CancelWatches"]

log = logging.getLogger("desist.db")

#: Seconds between two polls of a run that was cancelled from here, at first and at most.
FIRST, SLOWEST = 0.01, 0.25
#: Seconds beyond the grace in which a process must have acknowledged a cancel.
ANSWER_TIMEOUT = 2.0


class CancelWatch:
    """A run of another process that was cancelled from here."""

    def __init__(self, run_id: str, record: CancelRecord, answer_deadline: float, keeper: object) -> None:
        self.run_id, self.record, self.latch = run_id, record, Latch()
        self.status: RunStatus | None = RunStatus.cancelling
        self.answer_deadline = answer_deadline  #: when its process must have answered; seconds of `time.monotonic`
        #: The notifier holds its poller weakly; a receipt in use keeps the poller alive, even without its database.
        self.keeper = keeper
        self.busy = False  #: its end is on its way to the writer
        self.pause = FIRST
        self.due = time.monotonic() + FIRST


class CancelWatches:
    """The watches of one store."""

    def __init__(self, backend: SharedBackend, writer: Writer) -> None:
        self._backend, self._writer = backend, writer
        self._lock = threading.Lock()
        self._watches: dict[int, CancelWatch] = {}

    def add(self, watch: CancelWatch) -> None:
        """Poll a run until it has settled."""
        with self._lock:
            self._watches[id(watch)] = watch
        channel.notify_self()

    def remove(self, watch: Any) -> None:
        """Stop polling for a watch. Idempotent."""
        with self._lock:
            self._watches.pop(id(watch), None)

    def due_times(self) -> list[float]:
        """Return when each watch is to be polled next, in seconds of `time.monotonic`."""
        with self._lock:
            return [watch.due for watch in self._watches.values()]

    def poll(self, woken: bool) -> None:
        """Read the records of the watches that are due, or of all if this process was woken.

        Raises:
            StoreError: they can't be read.
        """
        now = time.monotonic()
        with self._lock:
            due = [watch for watch in self._watches.values() if woken or watch.due <= now]
        if not due:
            return
        with self._backend.reading_shared() as tables:
            rows = {row.run_id: row for row in tables.runs.headers(list({watch.run_id for watch in due}))}
            dead = {row.run_id for row in rows.values() if not row.is_final and orphan_reason(row, tables) is not None}
            ended = {row.run_id: tables.runs.get(row.run_id) for row in rows.values() if row.is_final}
        for watch in due:
            self._check(watch, rows.get(watch.run_id), watch.run_id in dead, ended.get(watch.run_id))
            watch.pause = FIRST if woken else min(2 * watch.pause, SLOWEST)
            watch.due = time.monotonic() + watch.pause

    def _check(self, watch: CancelWatch, row: RunRow | None, dead: bool, ended: RunRow | None) -> None:
        if row is None or ended is not None:
            self.remove(watch)
            _settle(watch, ended)
            return
        unanswered = row.cancel is not None and decode_cancel_request(row.cancel).delivered_at is None
        late = unanswered and time.monotonic() >= watch.answer_deadline
        if (dead or late) and not watch.busy:
            watch.busy = True
            end = end_orphans if dead else end_unresponsive
            done = self._writer.put(lambda tables: end(tables, row.root_run_id))
            done.add_done_callback(lambda _: _on_forced_end(watch))


def _on_forced_end(watch: CancelWatch) -> None:
    """Poll again at once, whether the end was written or not. In the writer's thread, or that of its deadlines."""
    watch.busy, watch.due = False, 0.0
    channel.notify_self()


def _settle(watch: CancelWatch, row: RunRow | None) -> None:
    """Fill the receipt from the stored record, then wake those who wait for it: they read the receipt at once."""
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
