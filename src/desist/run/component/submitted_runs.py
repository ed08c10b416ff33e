"""`SubmittedRuns`: the handle of many runs that were queued together. Made by `Workflow.submit_many`."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Literal

from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import CancelReceipt
from desist.cancel.status import RunStatus
from desist.run.cancellation_management.cancel import check_cancel_options
from desist.run.component.awaitable import awaitable
from desist.run.component.submitted_run import SubmittedRun
from desist.run.storage.queue_store import QueueStore
from desist.run.storage.shared_store import refuse_on_loop
from desist.run.storage.values import CancelRequest
from desist.runtime.daemon_thread import to_daemon_thread

__all__ = ["SubmittedRuns"]

#: Seconds between two looks at the runs, at first and at most.
FIRST, SLOWEST = 0.02, 0.5


class SubmittedRuns(Sequence[SubmittedRun]):
    """Runs that workers execute, in the order of their inputs.

    Leaving a wait, or an iterator, does not cancel the runs. `cancel` cancels all that have not ended.
    """

    __slots__ = ("_runs", "_store")

    def __init__(self, runs: Sequence[SubmittedRun], *, store: QueueStore) -> None:
        self._runs, self._store = list(runs), store

    def __len__(self) -> int:
        return len(self._runs)

    def __getitem__(self, index: Any) -> Any:
        return self._runs[index]

    @property
    def run_ids(self) -> list[str]:
        """The ids of the runs."""
        return [run.run_id for run in self._runs]

    def progress(self) -> Counter[RunStatus]:
        """Return how many runs have each status. Reads the database once.

        Raises:
            StoreError: the database can't be read.
        """
        return Counter(self._store.statuses(self.run_ids).values())

    # -- results

    def results(self, timeout: float | None = None) -> Iterator[Any]:
        """Return an iterator over the outputs of the runs, in the order in which they end, with any status.

        Parameters:
            timeout: seconds for all of them; None for as long as it takes.

        Raises:
            TimeoutError: some have not ended by then. They are not cancelled.
        """
        left, pause = dict.fromkeys(self.run_ids), FIRST
        until = time.monotonic() + timeout if timeout is not None else None
        while left:
            outputs = self._ended(left)
            yield from outputs
            if not left:
                return
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"{len(left)} of {len(self)} runs have not ended within {timeout:g} s")
            pause = FIRST if outputs else min(2 * pause, SLOWEST)
            time.sleep(pause if until is None else max(0.0, min(pause, until - time.monotonic())))

    async def aresults(self, timeout: float | None = None) -> AsyncIterator[Any]:
        """Do what `results` does, on the event loop."""
        left, pause = dict.fromkeys(self.run_ids), FIRST
        async with asyncio.timeout(timeout):
            while left:
                outputs = await to_daemon_thread(lambda: self._ended(left), "desist-db-read")
                for output in outputs:
                    yield output
                pause = FIRST if outputs else min(2 * pause, SLOWEST)
                if left:
                    await asyncio.sleep(pause)

    def _ended(self, left: dict[str, None]) -> list[Any]:
        """Return the outputs of runs that have ended, and drop these, and deleted ones, from `left`."""
        statuses = self._store.statuses(list(left))
        ended = [run_id for run_id in left if run_id not in statuses or statuses[run_id].is_final]
        found = [self._store.load_run(run_id) for run_id in ended]
        for run_id in ended:
            del left[run_id]
        return [run.output for run in found if run is not None]

    def wait(self, timeout: float | None = None) -> bool:
        """Wait in this thread until all runs have ended, for `timeout` seconds at most; return whether they have."""
        until = time.monotonic() + timeout if timeout is not None else None
        for run in self._runs:
            left = None if until is None else max(0.0, until - time.monotonic())
            if not run.wait(left):
                return False
        return True

    # -- cancelling

    def cancel(
        self,
        *,
        reason: str | None = None,
        by: str | None = None,
        grace: float | None = None,
        force: bool = False,
        scope: Literal["tree", "run"] = "tree",
        compensate: bool = False,
    ) -> list[CancelReceipt]:
        """Cancel all runs that have not ended, in one decision; return a receipt for each, in their order.

        Parameters and receipts as for `desist.run.cancel.cancel`. Queued runs never start. Async code awaits `acancel`.

        Raises:
            ConfigurationError: a value can't be used.
            RuntimeError: this thread runs an event loop.
            StoreError: the decision is not confirmed as stored.
        """
        check_cancel_options(scope, grace)
        if not self:
            return []
        refuse_on_loop(self._runs[0].run_id)
        request = CancelRequest(
            reason=CancelReason(source=Source.user, text=reason, by=by),
            grace=grace,
            force=force,
            reach=scope,
            compensate=compensate,
        )
        return self._store.request_cancels(self.run_ids, request)

    acancel = awaitable(cancel)

    def __repr__(self) -> str:
        return f"<SubmittedRuns: {len(self)} runs of {self._runs[0].workflow_id if self._runs else 'no workflow'}>"
