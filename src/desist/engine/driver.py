"""`Driver`: executes one submitted run in the calling process, for `drive` and `adrive`.

The record of the run decides, as for a worker: one process claims the run, and a run that has ended never begins again.
The claim is made in a daemon thread, and the run is executed on the background loop. The calling thread or task only
waits: an exception that a signal handler raises there can't break off a claim or a write.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from desist.cancel.reason import Source
from desist.cancel.status import RunStatus
from desist.db.store.shared_table_store import SharedTableStore
from desist.engine.drive_outcome import DriveOutcome, DriveResult
from desist.exceptions import ConfigurationError, StoreError
from desist.run.storage.values import StoredRun
from desist.runtime.daemon_thread import start_daemon_thread
from desist.runtime.latch import Latch
from desist.runtime.timer_thread import timers

if TYPE_CHECKING:
    from desist.run.execution.run import Run
    from desist.workflow.workflow import Workflow

__all__ = ["Driver"]

log = logging.getLogger("desist.engine")

#: Seconds that a stopped run may take to settle beyond its grace, and a run that is being claimed to be claimed.
SETTLING = 10.0


class Driver:
    """Drives one run. `done` is set when there is nothing more to wait for.

    Parameters:
        run_id: the run.
        store: has its record.
        workflows: the workflows of the calling program by id.
    """

    def __init__(self, run_id: str, store: SharedTableStore, workflows: Mapping[str, Workflow]) -> None:
        self.run_id, self._store, self._workflows = run_id, store, workflows
        self.done = Latch()
        self._lock = threading.Lock()  # not taken in the calling thread, where a signal handler may raise
        self._run: Run | None = None
        self._failed = False  #: the run was claimed and could not be started
        self._error: BaseException | None = None
        self._stop: Callable[[Run], object] | None = None  #: how to stop the run

    def start(self) -> None:
        """Claim and start the run, in another thread. Returns at once.

        Raises:
            RuntimeError: the system has no more threads, or the interpreter is ending.
        """
        try:
            timers.start()
            start_daemon_thread(self._begin, "desist-drive")
        except RuntimeError:
            self.done.set()
            raise

    def _begin(self) -> None:
        try:
            waits = self._claim()
        except BaseException as error:
            self._error, waits = error, False
        if not waits:
            self.done.set()

    def _claim(self) -> bool:
        """Claim and start the run; return whether its end is to be waited for."""
        workflow = self._workflow_of(self._load())
        claimed = self._store.take_queued(self.run_id)
        if claimed is None:
            return False
        try:
            # In an empty context: the run is no part of what the engine does, for example of its trace.
            run: Run = contextvars.Context().run(workflow.open_from_queue, claimed)
            with self._lock:
                self._run, stop = run, self._stop
            if stop is not None:
                stop(run)
            contextvars.Context().run(run.start)
        except Exception as error:
            log.error("cannot execute run %s: %s", self.run_id, error, extra={"run_id": self.run_id})
            self._run, self._failed = None, True
            self._store.fail_claimed_run(self.run_id, f"the run cannot be executed: {error}")
            self._on_settled()
            return True
        run.settled.add_done_callback(self._on_settled)
        return True

    def _on_settled(self) -> None:
        """Let the runs be claimed that wait for the key of this one, before the process may end."""
        removed = self._store.queue.remove_ended_soon([self.run_id])
        removed.add_done_callback(lambda _: self.done.set())

    def _load(self) -> StoredRun:
        found = self._store.load_run(self.run_id)
        if found is None:
            raise ConfigurationError(f"there is no run {self.run_id!r} in this database: submit it first")
        return found

    def _workflow_of(self, run: StoredRun) -> Workflow:
        found = self._workflows.get(run.owner_id or "") if run.kind == "workflow" else None
        if found is None:
            known = ", ".join(repr(name) for name in self._workflows)
            raise ConfigurationError(f"run {self.run_id} is one of {run.owner_id!r}, and drive() was given {known}")
        return found

    # -- stopping

    def stop(self, source: Source, text: str, *, hand_over: bool = False) -> None:
        """Have the timer thread stop the run; one that is being claimed, as soon as it is. Returns at once.

        Parameters:
            hand_over: give a run that may be resumed back to the queue, instead of cancelling it.
        """

        def stop(run: Run) -> None:
            if hand_over and getattr(run.body, "resumable", False):
                run.ownership.hand_over(f"{text}. The run is resumed when its job comes again")
            else:
                run.stop(source, text)

        timers.call_soon(lambda: self._do(stop))

    def _do(self, stop: Callable[[Run], object]) -> None:
        """Stop the run, or note how. In a thread where no signal handler raises."""
        with self._lock:
            self._stop, run = self._stop or stop, self._run
        if run is not None:
            stop(run)

    @property
    def patience(self) -> float:
        """Seconds to wait for the end of a stopped run."""
        run = self._run
        return SETTLING + (run.grace if run is not None else 0.0)

    # -- the end

    def outcome(self) -> DriveOutcome:
        """Return the outcome, when `done` is set. May read the store.

        Raises:
            StoreError: the run has ended, and its end could not be stored.
            Exception: what kept the run from being claimed.
        """
        if self._error is not None:
            raise self._error
        run = self._run
        if self._store.unwritten_end(self.run_id) is not None:
            raise StoreError(
                f"run {self.run_id} has ended, and its end could not be stored yet. This process retries that; if the"
                " process ends before, the run counts as lost. Call drive() again later"
            )
        if run is not None and not run.owned_elsewhere:
            return DriveOutcome(self.run_id, DriveResult.driven, run.status, run.body.output)
        found = self._load()
        result = DriveResult.owned_elsewhere
        if self._failed:
            result = DriveResult.driven
        elif found.status.is_final or found.status is RunStatus.paused:
            result = DriveResult.nothing_to_do
        return DriveOutcome(self.run_id, result, found.status, found.output)
