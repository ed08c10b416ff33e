"""Whether an event loop turns: asked when a grace is over, so that work that is only late isn't called deaf.

A loop that has a hundred connections to close needs more than a grace for it; its tasks will end. A task that swallows
its cancellation, or a callback that blocks the loop, won't.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Literal

__all__ = ["LoopProbe"]

#: How often a loop must have turned since it was asked, for its tasks to have had their chance.
ENOUGH = 3
#: Seconds in one and the same task after which a loop counts as blocked.
STUCK = 0.05


class LoopProbe:
    """What is known of one loop since it was first asked."""

    __slots__ = ("_asked", "_loop", "_running", "_seen", "_since", "_turns")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asked = False
        self._turns = self._seen = 0
        self._since = time.monotonic()  #: since when it has been in the same task
        self._running: asyncio.Task[Any] | None = None

    def check(self) -> Literal["late", "deaf", "blocked"]:
        """Say how it stands with what lives on the loop. From any thread; look again after some milliseconds.

        "late": the loop is busy, or was just asked. "deaf": it has turned often enough. "blocked": it is closed, or
        has been in one and the same task for 50 ms.
        """
        before, self._running = self._running, asyncio.current_task(self._loop)
        if not self._asked:
            self._asked = True
            try:
                self._loop.call_soon_threadsafe(self._turn)
            except RuntimeError:
                return "blocked"
            return "late"
        if self._turns >= ENOUGH:
            return "deaf"
        now = time.monotonic()
        if self._turns != self._seen or self._running is None or before is not self._running:
            self._seen, self._since = self._turns, now
        return "blocked" if now - self._since >= STUCK else "late"

    def _turn(self) -> None:
        self._turns += 1
        if self._turns < ENOUGH:
            self._loop.call_soon(self._turn)
