"""Driving one run on this worker: take it, start it on the home loop, and wait for its end. Called by the dispatch.

The record decides whether there is anything to do. What ends the run stays in it: nothing of a cancel reaches DBOS.
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
    """The runs of a worker.

    Parameters:
        store: where they are recorded.
        workflows: what the worker has, by id.
        concurrency: how many go on at a time.
        stir: told the id of a workflow when a run of it has ended.
    """

    def __init__(
        self,
        store: QueueStore,
        workflows: Mapping[str, Workflow],
        concurrency: int,
        on_run_ended: Callable[[str], object],
    ) -> None:
        self._store, self._workflows, self._concurrency, self._stir = store, workflows, concurrency, on_run_ended
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}
        self._beginning = 0  #: how many are just being taken
        self._turns: asyncio.Semaphore | None = None  #: of DBOS's loop
        self._changed = threading.Condition(self._lock)
        self.leaving = False  #: no more runs

    def runs(self) -> list[Run]:
        """Return those that live."""
        with self._lock:
            return list(self._runs.values())

    async def drive(self, run_id: str) -> str:
        """Do a run, if that is still to be done; return how it ended, for DBOS to note."""
        if self._turns is None:
            self._turns = asyncio.Semaphore(self._concurrency)
        async with self._turns:
            run = await to_daemon_thread(lambda: self._begin(run_id), "desist-take")
            if run is not None:
                await run.settled.wait_async()
        if run is None and not self.leaving:
            return "nothing to do"
        if self.leaving and (run is None or run.owned_elsewhere):
            await asyncio.Event().wait()  # it isn't through: the worker gives it back, and ends this
        assert run is not None
        return run.status.value

    def _begin(self, run_id: str) -> Run | None:
        with self._changed:
            if self.leaving:
                return None
            self._beginning += 1
        try:
            return self._claim(run_id)
        finally:
            with self._changed:
                self._beginning -= 1
                self._changed.notify_all()

    def _claim(self, run_id: str) -> Run | None:
        taken = self._store.take_queued(run_id)
        if taken is None:
            return None
        workflow = self._workflows[taken.run.owner_id or ""]
        try:
            # DBOS's context isn't the run's: what that starts is no part of a DBOS workflow.
            run: Run = contextvars.Context().run(workflow.open_from_queue, taken)
        except DesistError as error:
            self._give_up(taken, error)
            return None
        with self._lock:
            self._runs[run_id] = run
        run.settled.add_done_callback(lambda: self._ended(run_id, workflow.id))
        contextvars.Context().run(run.start)
        return run

    def _give_up(self, claimed: ClaimedRun, error: DesistError) -> None:
        log.error("run %s can't be driven: %s", claimed.run.run_id, error)
        self._store.fail_claimed_run(claimed.run.run_id, f"a worker can't drive it: {error}")

    def _ended(self, run_id: str, workflow_id: str) -> None:
        self._stir(workflow_id)
        with self._changed:
            self._runs.pop(run_id, None)
            self._changed.notify_all()

    def leave(self, seconds: float) -> None:
        """Take no more; return when those that were just being taken are there, after so many seconds at the most."""
        until = time.monotonic() + seconds
        with self._changed:
            self.leaving = True
            while self._beginning and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)

    def wait_ended(self, until: float, hurried: threading.Event | None = None) -> None:
        """Wait until none lives, until a time of `time.monotonic`, or until somebody is in a hurry."""
        with self._changed:
            while self._runs and not (hurried is not None and hurried.is_set()):
                left = until - time.monotonic()
                if left <= 0:
                    return
                self._changed.wait(left)

    def wake(self) -> None:
        """Somebody is in a hurry."""
        with self._changed:
            self._changed.notify_all()
