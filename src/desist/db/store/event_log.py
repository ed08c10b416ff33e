"""The events of runs on shared tables: their way into the tables, and to the followers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from desist.db.backends.base import SharedBackend
from desist.db.coordination.lease_keeper import LeaseKeeper
from desist.db.events.flusher import EventFlusher
from desist.db.process.live_runs import LiveRuns
from desist.db.process.notifier import channel
from desist.db.store.stored_follower import FollowerHub
from desist.db.writer import Writer
from desist.run.storage.event_buffer import EventBuffer
from desist.run.storage.values import StoredRun
from desist.streams.follower import Follower

__all__ = ["EventLog"]


class EventLog:
    """The part of `SharedTableStore` that has the events. Parameters as for `FollowerHub`."""

    def __init__(
        self,
        backend: SharedBackend,
        writer: Writer,
        leases: LeaseKeeper,
        live: LiveRuns,
        unwritten_end: Callable[[str], StoredRun | None],
    ) -> None:
        self.flusher = EventFlusher(writer, leases.epoch_of, leases.check_ownership_soon)
        self.hub = FollowerHub(backend, writer, live, unwritten_end)

    def events_added(self, recorder: EventBuffer) -> None:
        """Store the events of a run soon. See `SharedStore`."""
        self.flusher.schedule(recorder)

    def follow_run(self, run_id: str, after: int) -> Follower[Any]:
        """Return a stream of the events of a run of whichever process. See `SharedStore`."""
        return self.hub.follow(run_id, after)

    def flush(self) -> None:
        """Leave what has gathered to the writer at once."""
        self.flusher.flush()

    def stop(self) -> None:
        """Poll no more for followers. Before the backend is closed."""
        channel.unregister(self.hub)

    def close(self) -> None:
        """Tell those who still follow that the store is closed. After the backend is closed."""
        self.hub.close()
