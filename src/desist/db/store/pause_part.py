"""`PausePart`: paused runs on shared tables: answers, continuations, deadlines. See `PauseStore` for its methods.

Methods are called from any thread. `poll` is called by the notifier's thread: it looks for deadlines that have passed,
at intervals, in each process that has the database open; the transaction decides which process lets one take effect.
It gives the writer the jobs and does not wait for them.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from concurrent.futures import Future

from desist.cancel.registry import RunHandle
from desist.db.backends.base import SharedBackend
from desist.db.coordination import answer_transactions as transactions
from desist.db.coordination.lease_keeper import LeaseKeeper
from desist.db.process.notifier import channel
from desist.db.tables.sql import SqlTables
from desist.db.writer import Writer
from desist.exceptions import DesistError, StoreError
from desist.run.records.requirement import Answer, AnswerReceipt, Requirement, check_answer
from desist.run.storage.paused_runs import paused_runs
from desist.run.storage.values import StoredRun

__all__ = ["LOOK_INTERVAL", "PausePart"]

log = logging.getLogger("desist.db")

#: Seconds between two looks for deadlines.
LOOK_INTERVAL = 0.5
#: How many deadlines take effect at once; the others follow at the next look.
AT_ONCE = 500


class PausePart:
    """The part of `SharedTableStore` for paused runs."""

    def __init__(self, backend: SharedBackend, writer: Writer, leases: LeaseKeeper) -> None:
        self._backend, self._writer, self._leases = backend, writer, leases
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Forget everything: in a forked child the jobs are the parent's."""
        self._lock = threading.Lock()
        self._firing = 0  #: deadlines that the writer has
        self._look_at = 0.0  #: in seconds of `time.monotonic`

    def start(self) -> None:
        """Look for deadlines from now on. Idempotent."""
        channel.register(self)

    # -- answers

    def requirements(self, run_id: str) -> list[Requirement]:
        """Return the requirements of a run, and of those below it."""
        with self._backend.reading() as tables:
            return tables.requirements.of_tree(run_id)

    def answer(self, run_id: str, requirement_id: str, answer: Answer) -> AnswerReceipt:
        """Answer a requirement, once."""
        with self._backend.reading() as tables:
            found = tables.requirements.get(requirement_id)
        if found is not None and found.is_open:
            check_answer(found, answer)

        def work(tables: SqlTables) -> AnswerReceipt:
            return transactions.answer(tables, run_id, requirement_id, answer)

        return self._writer.put(work).result()  # ends in time: the writer bounds it

    # -- continuations

    def take(self, run_id: str) -> tuple[StoredRun, list[Requirement]]:
        """Take a run to continue it in this process."""
        self._leases.start()

        def work(tables: SqlTables) -> tuple[StoredRun, list[Requirement]] | DesistError:
            self._leases.heartbeat_if_due(tables)
            taken = transactions.take(tables, run_id)
            if isinstance(taken, DesistError):
                return taken
            row, run, requirements = taken
            self._leases.on_claimed(run_id, row.epoch, taken=True)
            return run, requirements

        try:
            found = self._writer.put(work).result()  # ends in time: the writer bounds it
        except StoreError:  # it may still be written, without a start: the next job undoes it
            self._writer.put(lambda tables: self._undo(tables, run_id))
            raise
        if isinstance(found, DesistError):
            raise found
        return found

    def put_back(self, run_id: str) -> None:
        """Undo `take`."""
        self._writer.put(lambda tables: self._undo(tables, run_id)).result()

    def _undo(self, tables: SqlTables, run_id: str) -> None:
        epoch = self._leases.epoch_of(run_id)
        if epoch is not None:
            transactions.put_back(tables, run_id, epoch)
            self._leases.owned.remove(run_id)

    def hand_over(self, run: RunHandle) -> None:
        """Do nothing: the record says who owns the run, and whether it was cancelled."""

    # -- deadlines, in the notifier's thread

    def poll(self, woken: bool) -> float:
        """Let the deadlines that have passed take effect; return when to look again, in seconds of `time.monotonic`."""
        now = time.monotonic()
        if now < self._look_at:
            return self._look_at
        self._look_at = now + LOOK_INTERVAL
        with self._lock:
            if self._firing:
                return self._look_at
        try:
            with self._backend.reading_shared() as tables:
                due = tables.requirements.due(tables.now(), AT_ONCE)
                following = None if due else tables.requirements.next_deadline()
                wait = math.inf if following is None else following - tables.now()
        except StoreError as error:
            log.debug("%s can't be read: %s", self._backend.name, error)
            return self._look_at
        for one in due:
            self._fire(one)
        self._look_at = min(self._look_at, now + max(wait, 0.0))
        return self._look_at

    def _fire(self, due: Requirement) -> None:
        with self._lock:
            self._firing += 1

        def fired(done: Future[transactions.FiredDeadline | None]) -> None:
            with self._lock:
                self._firing -= 1
            if done.exception() is not None:
                log.debug("the deadline of requirement %s: %s", due.requirement_id, done.exception())
                return
            found = done.result()
            if found is None:
                return
            log.info("run %s: nobody answered requirement %s in time", found[0], due.requirement_id)
            if found[1] is not None:
                self._backend.wake(found[1])
            paused_runs.resolved(found[0])

        listener = self._backend.address
        self._writer.put(lambda tables: transactions.fire(tables, due, listener)).add_done_callback(fired)
