"""Who follows which run, and what becomes of a run whose last follower is lost.

Everything happens on the server's loop. A run that is watched is cancelled, with source `client_disconnected`, when
nobody has followed it for a while; whoever comes back in time keeps it.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from desist.cancel.reason import Source
from desist.cancel.registry import registry

__all__ = ["Presence"]


class Presence:
    """The followers of a server's runs."""

    def __init__(self) -> None:
        self._followers: Counter[str] = Counter()
        self._watched: dict[str, float] = {}  #: seconds that the followers of a run may be away
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def watch(self, run_id: str, away: float) -> None:
        """From now on, cancel this run when its last follower has been lost for so many seconds."""
        self._watched[run_id] = away

    def followers(self, run_id: str) -> int:
        """Return how many follow a run now."""
        return self._followers[run_id]

    def joined(self, run_id: str) -> None:
        """Somebody follows."""
        self._followers[run_id] += 1
        timer = self._timers.pop(run_id, None)
        if timer is not None:
            timer.cancel()

    def left(self, run_id: str, *, lost: bool) -> None:
        """Somebody doesn't follow any more; `lost` says that the run had more to tell."""
        self._followers[run_id] -= 1
        if self._followers[run_id] > 0:
            return
        del self._followers[run_id]
        away = self._watched.get(run_id)
        if lost and away is not None:
            loop = asyncio.get_running_loop()
            self._timers[run_id] = loop.call_later(away, self._missed, run_id, away)

    def _missed(self, run_id: str, away: float) -> None:
        self._timers.pop(run_id, None)
        run = registry.get(run_id)
        if run is not None:
            run.stop(Source.client_disconnected, f"the last client left and was away for {away:g} s")

    def forget(self, run_id: str) -> None:
        """The run has ended: nobody need watch it."""
        self._watched.pop(run_id, None)
        timer = self._timers.pop(run_id, None)
        if timer is not None:
            timer.cancel()
