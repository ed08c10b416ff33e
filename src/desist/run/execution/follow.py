"""Followers of runs that were started in the background: from any event on, any number of them, also after the end.

The events of ended runs are kept in memory, up to a limit; later only the stored output of the run is left.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from desist.exceptions import ConfigurationError
from desist.run.storage.live_run import live_run
from desist.run.storage.shared_store import SharedStore
from desist.runtime.fork_hooks import register_at_fork
from desist.streams.follower import Follower
from desist.streams.replay_channel import ReplayChannel

__all__ = ["RecentChannels", "follow_ended", "follow_in_process", "follow_shared", "recent_streams"]


class RecentChannels:
    """The channels of background runs that have ended. The oldest is dropped when they have too many events.

    Parameters:
        keep: the maximum number of events of all runs together.
    """

    def __init__(self, keep: int = 100_000) -> None:
        self._lock = threading.Lock()
        self._keep, self._held = keep, 0
        self._streams: OrderedDict[str, ReplayChannel[Any]] = OrderedDict()

    def add(self, run_id: str, stream: ReplayChannel[Any]) -> None:
        """Keep the channel of a run that has ended, in the place of an earlier run with this id."""
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
        """Return the channel of a run, or None."""
        return self._streams.get(run_id)

    def forget(self, run_id: str) -> None:
        """Drop the channel of a run, if there is one."""
        with self._lock:
            self._drop(run_id)

    def reset_after_fork(self) -> None:
        """Reset, in a forked child: the parent's lock may be held there."""
        self._lock = threading.Lock()
        self._streams.clear()
        self._held = 0


#: The ended background runs of this process.
recent_streams = RecentChannels()
register_at_fork(after_in_child=recent_streams.reset_after_fork)


def follow_in_process(run_id: str, last_event_index: int | None) -> Follower[Any] | None:
    """Return a follower of the events of a run after one event, or None if this process has no such run.

    Parameters:
        run_id: the id of a run that was started in the background.
        last_event_index: `event_index` of the last event that was seen; None for all events.

    Raises:
        ConfigurationError: the run was not started in the background, or its events are not kept any more.
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
    """Return a follower of the events after one event of a run of any process.

    If the store has no such run, the follower raises the error when it is read.

    Raises:
        ConfigurationError: `last_event_index` is not the number of an event.
    """
    after = _after(last_event_index)
    run = live_run(run_id)
    stream = run.channel if run is not None and run.store is shared else None
    if isinstance(stream, ReplayChannel):  # a live run of this process; of ended runs the store has more events
        try:
            return stream.follow(run_id, after)
        except LookupError:  # these events are only in the store
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
    """Return a follower of stored events of a run that has ended: those after `last_event_index`."""
    lock = threading.Lock()
    channel: ReplayChannel[Any] = ReplayChannel(lock)
    after = -1 if last_event_index is None else last_event_index
    with lock:
        channel.close(event for event in events if event.event_index is None or event.event_index > after)
    return channel.follow(run_id)
