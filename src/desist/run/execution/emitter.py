"""The emitter of a run: puts its events where a reader gets them, and records what has finished."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from desist.cancel.status import RunStatus
from desist.exceptions import RunCancelled
from desist.run.execution.run_core import RunCore
from desist.run.storage.event_buffer import EventBuffer
from desist.run.storage.shared_store import shared_store
from desist.run.storage.store import PartKind
from desist.run.storage.values import Durability
from desist.streams.channel import Backlog, DiscardingChannel, EventChannel
from desist.streams.replay_channel import ReplayChannel

__all__ = ["Emitter"]

log = logging.getLogger("desist.run")
_RUNNING = RunStatus.running


def _number(event: Any, index: int) -> None:
    event.event_index = index


def _number_and_time(event: Any, index: int) -> None:
    """Number an event that is kept for replay and note when it was emitted: followers may read it much later."""
    event.event_index, event.event_at = index, time.time()


def _is_content(event: Any) -> bool:
    return bool(event.is_content)


def _mark_missed(event: Any, missed: int) -> None:
    event.missed_events = missed


def _follow_in_store(shared: Any, run_id: str, after: int) -> Any:
    """Return the stored rest of a stream, for a reader that fell behind the channel's backlog."""
    log.info("run %s is read slowly: its reader continues in the store after event %d", run_id, after)
    return shared.follow_run(run_id, after)


class Emitter:
    """Emits the events of one run, in its own channel or, for a bound child, in that of an ancestor.

    Every event and every change of the output passes through `emit` or `commit`. Both check the status under the lock
    of the tree, which a cancel holds when it decides: after the decision nothing is added.

    Parameters:
        run: the run.
        parent: of the run that it is bound to, whose reader gets its events; None if it has a reader of its own.
        replay: keep the events, for followers.
    """

    def __init__(self, run: RunCore, parent: Emitter | None, *, replay: bool) -> None:
        self.run, self.body = run, run.body
        self._lock, self._scope = run.lock, run.scope
        #: The emitter whose channel has the events of this run; itself unless the run is bound to a parent.
        self.stream_owner: Emitter = self if parent is None else parent.stream_owner
        #: What the store keeps of the run while it goes on: for a bound child as for the run at the top.
        own: Durability = getattr(run.body, "durability", "full")
        self.durability: Durability = own if parent is None else parent.durability
        self.event_buffer: EventBuffer | None = None  #: events to be stored, for followers in other processes
        self.channel: EventChannel[Any] = self._new_channel(replay) if parent is None else self.stream_owner.channel
        #: Called with every event of this run and of those bound to it, visible or not, with the lock held.
        self.on_event: Callable[[Any], None] | None = getattr(run.body, "on_event", None)

    def _new_channel(self, replay: bool) -> EventChannel[Any]:
        run = self.run
        shared = shared_store(run.store)
        if shared is None or self.durability == "ends":
            if replay:
                return ReplayChannel(self._lock, _number_and_time)
            return EventChannel(self._lock, _number, Backlog(_is_content, _mark_missed))
        self.event_buffer = EventBuffer(run.run_id, shared.events_added)
        number = self.event_buffer.number
        channel: EventChannel[Any]
        if not self.body.has_reader:  # no reader here, but other processes may follow through the store
            self.body.enable_all_events()
            channel = DiscardingChannel(self._lock, number)
        elif replay:
            channel = ReplayChannel(self._lock, number)
        else:
            rest = functools.partial(_follow_in_store, shared, run.run_id)
            channel = EventChannel(self._lock, number, Backlog(_is_content, _mark_missed, rest))
        channel.count = self.body.first_event_index
        return channel

    def emit(self, event: Any, apply: Callable[[], object] | None = None) -> None:
        """Emit an event and apply its change to the output, unless the outcome is decided.

        Called from any thread. The status is read under the lock: an event is either before the decision, and then its
        change counts, or it is refused.

        Parameters:
            event: what to emit.
            apply: changes the output; called exactly if the event counts, with the lock held. Must not block.

        Raises:
            RunCancelled: the run accepts nothing more.
        """
        with self._lock:
            if self._scope.status is not _RUNNING:
                raise RunCancelled(self._scope.reason)
            if apply is not None:
                apply()
            self.put(event)

    def commit(self, apply: Callable[[], object]) -> None:
        """Record a result in the output, unless the outcome is decided. As `emit`, without an event.

        Raises:
            RunCancelled: the run accepts nothing more.
        """
        with self._lock:
            if self._scope.status is not _RUNNING:
                raise RunCancelled(self._scope.reason)
            apply()

    def put(self, event: Any) -> None:
        """Put an event into the channel. With the lock held, after the status was checked."""
        owner = self.stream_owner
        if owner.on_event is not None:
            owner.on_event(event)
        if owner.channel.closed or not owner.body.is_visible(event):
            return
        owner.channel.put(event)

    def checkpoint(self, kind: PartKind, value: Any, at: Mapping[str, Any] | None = None) -> None:
        """Store what has finished, so that a crash doesn't lose it. After `commit`, without the lock; never fails."""
        owner, run = self.stream_owner, self.run
        if self.durability != "full":
            return
        if owner.event_buffer is not None:
            # A resumed run emits again from here: later events belong to work that hasn't finished.
            at = {**(at or {}), "events": owner.channel.count}
        try:
            run.store.add_part(run.run_id, kind, value, at)
        except Exception:
            log.exception("run %s: a finished %s could not be stored", run.run_id, kind, extra=run.ids)

    # -- the end

    def discard_content(self, run_ids: Collection[str]) -> None:
        """Drop undelivered content of cancelled runs from the own channel (guarantee 6). With the lock held.

        If the run of this channel is among them, all content goes: also that of children that ended earlier.
        """
        if self.run.run_id in run_ids:
            self.channel.discard(lambda event: event.is_content)
        else:
            self.channel.discard(lambda event: event.is_content and event.run_id in run_ids)

    def record_terminal(self, events: list[Any]) -> None:
        """Append the closing events to the event rows, which are stored together with the end of the run.

        Before the store is called, and before a reader gets these events. With no events the rows only end here.
        """
        if self.event_buffer is not None:
            with self._lock:
                rows = self.channel.terminal_items(event for event in events if self.body.is_visible(event))
                self.event_buffer.end(rows, self.channel.count)

    def put_terminal(self, events: list[Any]) -> None:
        """Emit the closing events, after the end is stored, and close the own channel. With the lock held."""
        owner = self.stream_owner
        if owner is self:
            self.channel.close([event for event in events if self.body.is_visible(event)])
            return
        for event in events:
            if owner._scope.status is not RunStatus.cancelling:
                self.put(event)
                continue
            # The whole tree is stopping: the channel holds the event back until the end of the tree is stored.
            if owner.on_event is not None:
                owner.on_event(event)
            if owner.body.is_visible(event):
                owner.channel.put_deferred(event)
