"""Cancel runs whose clients have disconnected (`on_disconnect="cancel"`).

A client is present while it has an open request that streams the run or waits for its end, and if it may cancel the
run. Clients that may only read count as followers, but not as present: otherwise a token without the scope `cancel`
could cancel a run by disconnecting.

The timer starts when the last present client disconnects, after a client that counts as the starter has been present.
If no client comes back within the grace period, the run is cancelled with source `client_disconnected`. So a client
that only follows never ends a run; it can only keep the run alive.

All methods run on the server's loop.
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
    """The state of one run with `on_disconnect="cancel"`."""

    starter: str  #: the key of the caller that started the run
    away: float  #: seconds without a present client, after which the run is cancelled
    begun: bool = False  #: whether a client that counts as the starter has been present
    timer: asyncio.TimerHandle | None = None  #: set while no client is present

    def counts(self, caller: Caller) -> bool:
        """Return whether a caller may cancel the run: by its scope, or because it started the run."""
        return "cancel" in caller.scopes or caller.key == self.starter

    def stop_timer(self) -> None:
        """Cancel the timer: a client is present again, or the run has ended."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class FollowerTracker:
    """Counts the clients of each run, and cancels runs without clients."""

    def __init__(self) -> None:
        self._clients: dict[str, list[Caller]] = {}  #: run id -> the callers of its open requests
        self._watches: dict[str, _Watch] = {}

    def watch(self, run_id: str, away: float, starter: Caller) -> None:
        """Cancel this run when no client has been present for `away` seconds."""
        self._watches[run_id] = _Watch(starter.key, away)

    def followers(self, run_id: str) -> int:
        """Return the number of open requests that follow a run or wait for its end."""
        return len(self._clients.get(run_id, ()))

    def may_end(self, run_id: str, caller: Caller) -> bool:
        """Return whether a disconnect of this caller may end the run, or the run ends at no disconnect."""
        watch = self._watches.get(run_id)
        return watch is None or watch.counts(caller)

    def joined(self, run_id: str, caller: Caller, *, starts: bool = False) -> None:
        """Count a request that follows a run or waits for its end.

        Parameters:
            starts: the client counts as the starter: this request started the run, or has `present=true`.
        """
        self._clients.setdefault(run_id, []).append(caller)
        watch = self._watches.get(run_id)
        if watch is not None and watch.counts(caller):
            watch.begun = watch.begun or starts
            watch.stop_timer()

    def left(self, run_id: str, caller: Caller, *, lost: bool) -> None:
        """Uncount a request that was closed. `lost`: before the run had ended."""
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
        """Forget a run that has ended."""
        watch = self._watches.pop(run_id, None)
        if watch is not None:
            watch.stop_timer()
