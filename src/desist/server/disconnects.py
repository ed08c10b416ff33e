"""Which clients are present at which run, and what becomes of a run that its clients have left.

Present are clients that may cancel the run, for as long as a request of theirs is open: one that streams or waits for
the run's end. Clients that may only read are counted as followers, and decide nothing: else a token without the scope
`cancel` could stop a run by leaving it.

A run is watched from the moment at which a client that stands for its start is present. When it is watched and no
client has been present for its grace, it is cancelled with source `client_disconnected`. So a client that only follows
never ends a run: before the starter was present nothing is watched, afterwards a follower can only prolong it.

Everything happens on the server's loop.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from desist.cancel.reason import Source
from desist.cancel.registry import registry
from desist.server.tokens import Caller

__all__ = ["FollowerTracker"]


@dataclass(slots=True)
class _Watch:
    """A run that is to be cancelled when its clients have left."""

    starter: str  #: the key of the caller that started it
    away: float  #: seconds that its clients may be absent
    begun: bool = False  #: whether a client that stands for the start has been present
    timer: asyncio.TimerHandle | None = None  #: while no client is present

    def counts(self, caller: Caller) -> bool:
        """Whether a caller may cancel the run: by its scope, or because it started the run."""
        return "cancel" in caller.scopes or caller.key == self.starter

    def stop_timer(self) -> None:
        """Somebody is present again, or the run has ended."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class FollowerTracker:
    """The clients of a server's runs."""

    def __init__(self) -> None:
        self._clients: dict[str, list[Caller]] = {}  #: of each open request its caller, by run
        self._watches: dict[str, _Watch] = {}

    def watch(self, run_id: str, away: float, starter: Caller) -> None:
        """From now on, cancel this run when its clients have left and none has been present for so many seconds."""
        self._watches[run_id] = _Watch(starter.key, away)

    def followers(self, run_id: str) -> int:
        """Return how many requests that follow a run, or wait for it, are open."""
        return len(self._clients.get(run_id, ()))

    def may_end(self, run_id: str, caller: Caller) -> bool:
        """Whether a caller's leaving can count: it may cancel the run, or nobody's leaving does."""
        watch = self._watches.get(run_id)
        return watch is None or watch.counts(caller)

    def joined(self, run_id: str, caller: Caller, *, starts: bool = False) -> None:
        """A request that follows a run, or waits for it, was opened.

        Parameters:
            starts: it stands for the start of the run: it has started the run, or says that it counts.
        """
        self._clients.setdefault(run_id, []).append(caller)
        watch = self._watches.get(run_id)
        if watch is not None and watch.counts(caller):
            watch.begun = watch.begun or starts
            watch.stop_timer()

    def left(self, run_id: str, caller: Caller, *, lost: bool) -> None:
        """Such a request was closed; `lost` says that the run had more to tell."""
        clients = self._clients[run_id]
        clients.remove(caller)
        if not clients:
            del self._clients[run_id]
        watch = self._watches.get(run_id)
        if watch is None or not lost or not watch.begun or not watch.counts(caller):
            return
        if not any(watch.counts(other) for other in clients):
            loop = asyncio.get_running_loop()
            watch.timer = loop.call_later(watch.away, self._on_disconnect_timeout, run_id, watch.away)

    def _on_disconnect_timeout(self, run_id: str, away: float) -> None:
        run = registry.get(run_id)
        if run is not None:
            run.stop(Source.client_disconnected, f"the last client left and was away for {away:g} s")

    def remove(self, run_id: str) -> None:
        """The run has ended: nobody need watch it."""
        watch = self._watches.pop(run_id, None)
        if watch is not None:
            watch.stop_timer()
