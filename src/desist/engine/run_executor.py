"""Executes runs on this worker: claims a run, starts it on the background loop, waits for its end.

Called by `DbosDispatcher`. The record of a run decides whether there is anything to do. A cancel never reaches DBOS.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from desist.exceptions import DesistError
from desist.run.storage.queue_store import ClaimedRun, QueueStore
from desist.runtime.daemon_thread import to_daemon_thread

if TYPE_CHECKING:
    from desist.run.execution.run import Run
    from desist.workflow.workflow import Workflow

__all__ = ["RunExecutor"]

log = logging.getLogger("desist.engine")


class RunExecutor:
    """The live runs of a worker.

    Parameters:
        store: has the records of the runs.
        workflows: the worker's workflows by id.
        concurrency: the maximum of concurrent runs.
        on_run_ended: called with the id of the workflow when a run has ended, on any thread.
    """

    def __init__(
        self,
        store: QueueStore,
        workflows: Mapping[str, Workflow],
        concurrency: int,
        on_run_ended: Callable[[str], object],
    ) -> None:
        self._store, self._workflows = store, workflows
        self._concurrency, self._on_run_ended = concurrency, on_run_ended
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}
        self._claiming = 0  #: number of claims in progress
        self._turns: asyncio.Semaphore | None = None  #: created on DBOS's loop
        self._changed = threading.Condition(self._lock)
        self.leaving = False  #: no more runs are claimed

    def runs(self) -> list[Run]:
        """Return the live runs."""
        with self._lock:
            return list(self._runs.values())

    async def drive(self, run_id: str) -> str:
        """Execute a run, if it still needs to be. Return how it ended, for DBOS to record."""
        if self._turns is None:
            self._turns = asyncio.Semaphore(self._concurrency)
        async with self._turns:
            run = await to_daemon_thread(lambda: self._begin(run_id), "desist-take")
            if run is not None:
                await run.settled.wait_async()
        if run is None and not self.leaving:
            return "nothing to do"
        if self.leaving and (run is None or run.owned_elsewhere):
            await asyncio.Event().wait()  # unfinished: the worker requeues the run and cancels this task
        assert run is not None
        return run.status.value

    def _begin(self, run_id: str) -> Run | None:
        with self._changed:
            if self.leaving:
                return None
            self._claiming += 1
        try:
            return self._claim(run_id)
        finally:
            with self._changed:
                self._claiming -= 1
                self._changed.notify_all()

    def _claim(self, run_id: str) -> Run | None:
        claimed = self._store.take_queued(run_id)
        if claimed is None:
            return None
        workflow = self._workflows[claimed.run.owner_id or ""]
        try:
            # In an empty context, or DBOS calls in user code would join DBOS's workflow.
            run: Run = contextvars.Context().run(workflow.open_from_queue, claimed)
        except DesistError as error:
            self._fail(claimed, error)
            return None
        with self._lock:
            self._runs[run_id] = run
        run.settled.add_done_callback(lambda: self._ended(run_id, workflow.id))
        contextvars.Context().run(run.start)
        return run

    def _fail(self, claimed: ClaimedRun, error: DesistError) -> None:
        log.error("cannot execute run %s: %s", claimed.run.run_id, error)
        self._store.fail_claimed_run(claimed.run.run_id, f"the worker cannot execute the run: {error}")

    def _ended(self, run_id: str, workflow_id: str) -> None:
        self._on_run_ended(workflow_id)
        with self._changed:
            self._runs.pop(run_id, None)
            self._changed.notify_all()

    def leave(self, seconds: float) -> None:
        """Claim no more runs. Wait for claims in progress, for `seconds` at most."""
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
