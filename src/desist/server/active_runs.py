"""The live runs of a server: their maximum, and how they end at shutdown.

All methods run on the server's loop. `RunService` calls `check` and `add`; `serve` and the lifespan call `drain`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from desist.cancel.reason import Source
from desist.cancel.registry import registry
from desist.server.disconnects import FollowerTracker
from desist.server.problems import HTTPProblem

__all__ = ["ActiveRuns"]

#: Seconds that `drain` waits for cancelled runs to settle.
SETTLING = 10.0


class ActiveRuns:
    """The live runs of a server.

    Parameters:
        most: the maximum of live runs.
        tracker: what it knows of a run is removed when the run has settled.
    """

    def __init__(self, most: int, tracker: FollowerTracker) -> None:
        self._most, self._followers = most, tracker
        self._live: dict[str, Any] = {}
        self._skip: asyncio.Event = asyncio.Event()
        self.closing = False  #: no new runs are accepted

    def __len__(self) -> int:
        return len(self._live)

    def check(self) -> None:
        """Refuse a new run if the server is shutting down or has the maximum of live runs.

        Raises:
            HTTPProblem: 503 or 429.
        """
        if self.closing:
            raise HTTPProblem(503, "the server is shutting down: no new runs are accepted", {"Retry-After": "10"})
        if len(self._live) >= self._most:
            raise HTTPProblem(
                429,
                f"{self._most} runs are live, which is the maximum: try again when one has ended",
                {"Retry-After": "1"},
            )

    def add(self, run_id: str) -> None:
        """Count a run that was just started until it has settled. Does nothing if it has settled already."""
        run = registry.get(run_id)
        if run is None:
            return
        self._live[run_id] = run
        loop = asyncio.get_running_loop()

        def on_settled() -> None:  # called on any thread
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server has ended
                loop.call_soon_threadsafe(self._remove, run_id, run)

        run.settled.add_done_callback(on_settled)

    def _remove(self, run_id: str, run: Any) -> None:
        if self._live.get(run_id) is run:
            del self._live[run_id]
        self._followers.remove(run_id)

    async def drain(self, seconds: float, source: Source, text: str) -> None:
        """Accept no new runs, wait `seconds` for the live ones to end, then cancel the rest.

        Returns when all have settled, or after the time for settling. `skip_drain()` ends the first wait.
        """
        self.closing = True
        if seconds > 0 and self._live:
            await self._wait_settled(seconds, skippable=True)
        for run in list(self._live.values()):
            run.stop(source, text)
        await self._wait_settled(SETTLING, skippable=False)

    def skip_drain(self) -> None:
        """Cancel live runs now instead of waiting for them."""
        self._skip.set()

    async def _wait_settled(self, seconds: float, *, skippable: bool) -> None:
        settled = [asyncio.ensure_future(run.settled.wait_async()) for run in self._live.values()]
        skip = asyncio.ensure_future(self._skip.wait())
        try:
            everything = asyncio.ensure_future(asyncio.wait(settled)) if settled else None
            if everything is not None:
                both = {everything, skip} if skippable else {everything}
                await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                everything.cancel()
        finally:
            for task in (*settled, skip):
                task.cancel()
