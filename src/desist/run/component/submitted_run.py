"""`SubmittedRun`: the handle of a queued run, which any process may execute and any process can cancel.

Made by `Workflow.submit`. A handle has only the id of the run and its store, so all handles of a run work alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, Literal

from desist.cancel.receipt import CancelReceipt
from desist.cancel.status import RunStatus
from desist.exceptions import StoreError
from desist.run.cancellation_management.cancel import cancel
from desist.run.storage.queue_store import QueueStore
from desist.runtime.daemon_thread import to_daemon_thread

__all__ = ["SubmittedRun"]


class SubmittedRun:
    """A run that a worker executes. `await` it for its output.

    Leaving a wait does not cancel the run. `cancel` cancels it, queued or running, in any process.
    """

    __slots__ = ("_store", "run_id", "session_id", "workflow_id")

    def __init__(self, run_id: str, *, store: QueueStore, workflow_id: str, session_id: str | None) -> None:
        self.run_id, self.workflow_id, self.session_id = run_id, workflow_id, session_id
        self._store = store

    @property
    def status(self) -> RunStatus:
        """The status now: `PENDING` until a worker has the run. Reads the database.

        Raises:
            StoreError: the run can't be read, or was deleted.
        """
        return self._output().status  # type: ignore[no-any-return]

    def _output(self) -> Any:
        found = self._store.load_run(self.run_id)
        if found is None:
            raise StoreError(f"run {self.run_id} was deleted")
        return found.output

    def wait(self, timeout: float | None = None) -> bool:
        """Wait in this thread until the run has ended, for at most `timeout` seconds; return whether it has ended."""
        watch = self._store.watch_end(self.run_id)
        try:
            return watch.latch.wait(timeout)
        finally:
            self._store.remove_watch(watch)

    def result(self, timeout: float | None = None) -> Any:
        """Wait until the run has ended; return its output, with any status.

        Parameters:
            timeout: seconds to wait at most; None for as long as it takes.

        Raises:
            TimeoutError: the run has not ended by then. It is not cancelled.
            StoreError: the run was deleted.
        """
        if not self.wait(timeout):
            raise TimeoutError(f"run {self.run_id} has not ended within {timeout:g} s; it is still running")
        return self._output()

    async def _wait(self) -> Any:
        watch = await to_daemon_thread(lambda: self._store.watch_end(self.run_id), "desist-db-call")
        try:
            await watch.latch.wait_async()
        finally:
            self._store.remove_watch(watch)
        return await to_daemon_thread(self._output, "desist-db-read")

    def __await__(self) -> Generator[Any, None, Any]:
        return self._wait().__await__()

    async def aresult(self, timeout: float | None = None) -> Any:
        """Do what `result` does, on the event loop."""
        async with asyncio.timeout(timeout):
            return await self._wait()

    def cancel(
        self,
        *,
        reason: str | None = None,
        by: str | None = None,
        grace: float | None = None,
        force: bool = False,
        scope: Literal["tree", "run"] = "tree",
        compensate: bool = False,
    ) -> CancelReceipt:
        """Cancel the run; see `desist.run.cancel.cancel`. A queued run ends at once and never starts."""
        return cancel(
            self.run_id,
            reason=reason,
            by=by,
            grace=grace,
            force=force,
            scope=scope,
            compensate=compensate,
            db=self._store,
        )

    def __repr__(self) -> str:
        return f"<SubmittedRun {self.run_id} of {self.workflow_id}>"
