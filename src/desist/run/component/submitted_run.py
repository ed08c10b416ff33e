"""A run that was submitted, as whoever submitted it sees it: any process may drive it, and it can be stopped from here.

Made by `Workflow.submit`. It holds nothing but the run's id and where it is recorded; another one for the same run, in
another process, says the same.
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
    """A run that some worker drives. `await` it for its output.

    Whoever waits may leave: the run goes on. `cancel` stops it, queued or running, wherever it is.
    """

    __slots__ = ("_store", "run_id", "session_id", "workflow_id")

    def __init__(self, run_id: str, *, store: QueueStore, workflow_id: str, session_id: str | None) -> None:
        self.run_id, self.workflow_id, self.session_id = run_id, workflow_id, session_id
        self._store = store

    @property
    def status(self) -> RunStatus:
        """Where it stands now: `PENDING` until a worker has it. Looks into the database.

        Raises:
            StoreError: it can't be read, or the run was deleted.
        """
        return self._output().status  # type: ignore[no-any-return]

    def _output(self) -> Any:
        found = self._store.load_run(self.run_id)
        if found is None:
            raise StoreError(f"run {self.run_id} isn't recorded any more: it was deleted")
        return found.output

    def wait(self, timeout: float | None = None) -> bool:
        """Wait in this thread until it has ended, for at most `timeout` seconds; return whether it has."""
        watch = self._store.watch_end(self.run_id)
        try:
            return watch.latch.wait(timeout)
        finally:
            self._store.remove_watch(watch)

    def result(self, timeout: float | None = None) -> Any:
        """Wait until it has ended; return its output, whatever its status is.

        Parameters:
            timeout: seconds to wait at most; None for as long as it takes.

        Raises:
            TimeoutError: it hasn't ended by then. It goes on.
            StoreError: it was deleted.
        """
        if not self.wait(timeout):
            raise TimeoutError(f"run {self.run_id} hasn't ended within {timeout:g} s, and goes on")
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
        """Do what `result` does, on this loop."""
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
        """Cancel it; see `desist.run.cancel.cancel`. While it waits for a worker it ends at once,
        and never begins.
        """
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
