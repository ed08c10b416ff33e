"""Find out whether an event loop is busy or blocked, so that tasks that are only late aren't abandoned.

A loop that has a hundred connections to close needs more than a grace for that, and its tasks will end. A task that
swallows its cancellation, or a callback that blocks the loop, won't.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Literal

__all__ = ["LoopProbe"]

#: How many times a loop must have turned since the first check, for its tasks to have received their cancellation.
ENOUGH = 3
#: Seconds in one and the same task after which a loop counts as blocked.
STUCK = 0.05


class LoopProbe:
    """The state of one loop since the first check. `_turn` runs on the loop, `check` under the lock of the run."""

    __slots__ = ("_checked", "_loop", "_running", "_seen", "_since", "_turns")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._checked = False
        self._turns = self._seen = 0
        self._since = time.monotonic()  #: when the loop was last seen to make progress
        self._running: asyncio.Task[Any] | None = None

    def check(self) -> Literal["late", "deaf", "blocked"]:
        """Return the state of the loop. From any thread; meant to be repeated every few milliseconds.

        "late": the loop is busy, or this is the first check. "deaf": the loop has turned often enough, so its tasks
        ignore their cancellation. "blocked": the loop is closed, or has run the same task for 50 ms.
        """
        before, self._running = self._running, asyncio.current_task(self._loop)
        if not self._checked:
            self._checked = True
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
