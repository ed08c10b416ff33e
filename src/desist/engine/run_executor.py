"""Executes claimed runs on this worker: opens them, starts them on the background loop, notes their ends.

Called by `WorkerThread`, which claims the runs, and by `Worker`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from desist.exceptions import StoreError
from desist.run.storage.queue_store import ClaimedRun, QueueStore

if TYPE_CHECKING:
    from desist.run.execution.run import Run
    from desist.workflow.workflow import Workflow

__all__ = ["RunExecutor"]

log = logging.getLogger("desist.engine")


class RunExecutor:
    """The live runs of a worker. Methods may be called from any thread, `begin` from that of the worker only.

    Parameters:
        store: has the records of the runs.
        workflows: the worker's workflows by id.
        concurrency: the maximum of concurrent runs.
        wake: called when a run has ended, on any thread.
    """

    def __init__(
        self, store: QueueStore, workflows: Mapping[str, Workflow], concurrency: int, wake: Callable[[], object]
    ) -> None:
        self._store, self._workflows, self._wake = store, workflows, wake
        self.concurrency = concurrency
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._runs: dict[str, Run] = {}
        self._claiming = False  #: claimed runs are not begun yet
        self._ended: list[str] = []  #: runs that have ended and are still in the queue
        self._news = True
        self.leaving = False  #: no more runs are claimed

    def runs(self) -> list[Run]:
        """Return the live runs."""
        with self._lock:
            return list(self._runs.values())

    # -- claims

    @property
    def has_news(self) -> bool:
        """Whether runs have ended since the last claim."""
        return self._news

    def take_news(self) -> tuple[int, list[str]]:
        """Return how many runs can be claimed, and those that have ended since the last call. `end_claim` follows."""
        with self._changed:
            ended, self._ended, self._news = self._ended, [], False
            places = 0 if self.leaving else max(0, self.concurrency - len(self._runs))
            self._claiming = bool(places)
            return places, ended

    def add_ended(self, run_ids: Iterable[str]) -> None:
        """Return runs that `take_news` has returned: they are still in the queue."""
        with self._changed:
            self._ended.extend(run_ids)
            self._news = True

    def begin(self, claimed: Sequence[ClaimedRun]) -> None:
        """Start claimed runs. One that can't be started ends as an error, and doesn't keep others from their start."""
        for one in claimed:
            try:
                self._start(one)
            except Exception as error:
                self._fail(one, error)

    def end_claim(self) -> None:
        """Record that all claimed runs were begun: `leave` goes on."""
        with self._changed:
            self._claiming = False
            self._changed.notify_all()

    def _start(self, claimed: ClaimedRun) -> None:
        run_id, workflow = claimed.run.run_id, self._workflows[claimed.run.owner_id or ""]
        run: Run = workflow.open_from_queue(claimed)
        with self._lock:
            self._runs[run_id] = run
        run.settled.add_done_callback(lambda: self._on_ended(run_id))
        try:
            run.start()
        except BaseException:
            with self._lock:
                self._runs.pop(run_id, None)
            raise

    def _fail(self, claimed: ClaimedRun, error: Exception) -> None:
        """End a run that can't be started. If that can't be stored, the run is requeued when the database is back."""
        run_id = claimed.run.run_id
        log.error("cannot execute run %s: %s", run_id, error)
        try:
            self._store.fail_claimed_run(run_id, f"the worker cannot execute the run: {error}")
            self.add_ended([run_id])
        except StoreError:
            self._store.release([run_id])

    def _on_ended(self, run_id: str) -> None:
        with self._changed:
            run = self._runs.pop(run_id, None)
            if run is not None and not run.owned_elsewhere:  # a run that was handed over stays in the queue
                self._ended.append(run_id)
            self._news = True
            self._changed.notify_all()
        self._wake()

    # -- leaving

    def leave(self, seconds: float) -> None:
        """Claim no more runs. Wait for a claim in progress, for `seconds` at most."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self.leaving = True
            while self._claiming and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)

    def wait_ended(self, deadline: float, skip: threading.Event | None = None) -> None:
        """Wait until no run is live, `time.monotonic()` reaches the deadline, or `skip` is set."""
        with self._changed:
            while self._runs and not (skip is not None and skip.is_set()):
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                self._changed.wait(left)

    def wake(self) -> None:
        """Make `wait_ended` check again whether `skip` is set."""
        with self._changed:
            self._changed.notify_all()
