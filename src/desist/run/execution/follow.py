"""Following a run that was started in the background: from any event on, by any number of readers, also after its end.

Called by agents and workflows. The events of runs that have ended are kept for a while; afterwards their record
remains, which tells how they ended. It must not know of agents or workflows.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from desist.exceptions import ConfigurationError
from desist.run.storage.live_run import live_run
from desist.run.storage.shared_store import SharedStore
from desist.streams.follower import Follower
from desist.streams.replay_channel import ReplayChannel

__all__ = ["RecentChannels", "follow_ended", "follow_in_process", "follow_shared", "recent_streams"]


class RecentChannels:
    """The events of background runs that have ended, bounded by their number in all; the oldest run goes first.

    Parameters:
        keep: how many events are kept.
    """

    def __init__(self, keep: int = 100_000) -> None:
        self._lock = threading.Lock()
        self._keep, self._held = keep, 0
        self._streams: OrderedDict[str, ReplayChannel[Any]] = OrderedDict()

    def add(self, run_id: str, stream: ReplayChannel[Any]) -> None:
        """Keep the events of a run that has told its end; those of an earlier run of this id are forgotten."""
        with self._lock:
            self._drop(run_id)
            self._streams[run_id] = stream
            self._held += stream.replay
            while self._held > self._keep:
                self._drop(next(iter(self._streams)))

    def _drop(self, run_id: str) -> None:
        stream = self._streams.pop(run_id, None)
        if stream is not None:
            self._held -= stream.replay

    def get(self, run_id: str) -> ReplayChannel[Any] | None:
        """Return the events of a run, or None."""
        return self._streams.get(run_id)

    def reset_after_fork(self) -> None:
        """Start anew, in a forked child."""
        self._lock = threading.Lock()
        self._streams.clear()
        self._held = 0


#: Those of this process.
recent_streams = RecentChannels()
os.register_at_fork(after_in_child=recent_streams.reset_after_fork)


def follow_in_process(run_id: str, last_event_index: int | None) -> Follower[Any] | None:
    """Return a stream of what a run tells after an event, or None if this process knows no such run.

    Parameters:
        run_id: of a run that was started in the background.
        last_event_index: `event_index` of the last event that was seen; None for all.

    Raises:
        ConfigurationError: the run isn't one that can be followed, or those events aren't kept any more.
    """
    after = _after(last_event_index)
    stream = _stream(run_id)
    if stream is None:
        return None
    if not isinstance(stream, ReplayChannel):
        raise ConfigurationError(
            f"run {run_id} can't be followed: its events aren't kept. Start it with arun(..., background=True)"
        )
    try:
        return stream.follow(run_id, after)
    except LookupError as error:
        raise ConfigurationError(f"{error}: start again without last_event_index") from None


def follow_shared(shared: SharedStore, run_id: str, last_event_index: int | None) -> Follower[Any]:
    """Return a stream of what a run tells after an event, of this process or any other one on that store.

    Raises:
        ConfigurationError: the number isn't one. Where there is no such run, that is told to whoever reads.
    """
    after = _after(last_event_index)
    run = live_run(run_id)
    stream = run.channel if run is not None and run.store is shared else None
    if isinstance(stream, ReplayChannel):  # it lives here, and is at hand; of one that has ended the store knows more
        try:
            return stream.follow(run_id, after)
        except LookupError:  # not so far back
            pass
    return shared.follow_run(run_id, after)


def _after(last_event_index: int | None) -> int:
    after = -1 if last_event_index is None else last_event_index
    if not isinstance(after, int) or after < -1:
        raise ConfigurationError(f"last_event_index={last_event_index!r} must be the event_index of an event")
    return after


def _stream(run_id: str) -> Any:
    run = live_run(run_id)
    return run.channel if run is not None else recent_streams.get(run_id)


def follow_ended(run_id: str, events: Sequence[Any], last_event_index: int | None) -> Follower[Any]:
    """Return a stream of what is recorded of a run that has ended: those of its events that come after the one seen."""
    lock = threading.Lock()
    channel: ReplayChannel[Any] = ReplayChannel(lock)
    after = -1 if last_event_index is None else last_event_index
    with lock:
        channel.close(event for event in events if event.event_index is None or event.event_index > after)
    return channel.follow(run_id)
