"""The runs that live on a server: how many there may be, and how they end when the server does.

On the server's loop. Called by the core when a run starts, and by the process when it is told to end.
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

#: Seconds for cancelled runs to settle, beyond what their grace bounds.
SETTLING = 10.0


class ActiveRuns:
    """The live runs of a server.

    Parameters:
        most: how many may live at once.
        presence: who follows them.
    """

    def __init__(self, most: int, tracker: FollowerTracker) -> None:
        self._most, self._followers = most, tracker
        self._live: dict[str, Any] = {}
        self._hurry: asyncio.Event = asyncio.Event()
        self.closing = False  #: no new runs

    def __len__(self) -> int:
        return len(self._live)

    def check(self) -> None:
        """Refuse one more run, if need be.

        Raises:
            Refused: with 503 if the server is ending, 429 if it has too many.
        """
        if self.closing:
            raise HTTPProblem(503, "the server is about to end: it takes no new runs", {"Retry-After": "10"})
        if len(self._live) >= self._most:
            raise HTTPProblem(429, f"{self._most} runs live already: wait for one to end", {"Retry-After": "1"})

    def add(self, run_id: str) -> None:
        """Note a run that was just started, unless it has ended already."""
        run = registry.get(run_id)
        if run is None:
            return
        self._live[run_id] = run
        loop = asyncio.get_running_loop()

        def ended() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody counts any more
                loop.call_soon_threadsafe(self._left, run_id, run)

        run.settled.add_done_callback(ended)

    def _left(self, run_id: str, run: Any) -> None:
        if self._live.get(run_id) is run:
            del self._live[run_id]
        self._followers.remove(run_id)

    async def drain(self, seconds: float, source: Source, text: str) -> None:
        """Take no new runs; let those that live end by themselves for so many seconds; then cancel them.

        Returns when all have settled. `hurry()` ends the waiting.
        """
        self.closing = True
        if seconds > 0 and self._live:
            await self._ended(seconds, hurried=True)
        for run in list(self._live.values()):
            run.stop(source, text)
        await self._ended(SETTLING, hurried=False)

    def skip_drain(self) -> None:
        """Don't wait for runs to end by themselves."""
        self._hurry.set()

    async def _ended(self, seconds: float, *, hurried: bool) -> None:
        settled = [asyncio.ensure_future(run.settled.wait_async()) for run in self._live.values()]
        hurry = asyncio.ensure_future(self._hurry.wait())
        try:
            everything = asyncio.ensure_future(asyncio.wait(settled)) if settled else None
            if everything is not None:
                both = {everything, hurry} if hurried else {everything}
                await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                everything.cancel()
        finally:
            for task in (*settled, hurry):
                task.cancel()
