"""How a run ends: hooks clean up, the output is finished, stored, and then told. In that order, by whoever is last."""

from __future__ import annotations

import asyncio
import copy
import logging
import os
import time
import weakref
from dataclasses import replace
from typing import Any

from desist.cancel.registry import registry
from desist.cancel.scope import CleanupState
from desist.cancel.status import RunStatus
from desist.run.execution.cleanup import run_cleanups
from desist.run.execution.emitter import Emitter
from desist.run.execution.follow import recent_streams
from desist.run.storage.store import StoredRun
from desist.streams.replay_channel import ReplayChannel

__all__ = ["Finalizer", "runs_with_abandoned_work"]

log = logging.getLogger("desist.run")

#: Fields of outputs that grow while a run goes on.
_GROWING = ("events", "messages", "step_results", "tools")
#: Runs that ended while something of theirs went on; gone when that has ended.
_left_behind: weakref.WeakValueDictionary[int, Finalizer] = weakref.WeakValueDictionary()
os.register_at_fork(after_in_child=_left_behind.clear)


def runs_with_abandoned_work() -> list[Finalizer]:
    """Return the runs that have ended and left work behind which may still go on."""
    return [run for ref in _left_behind.valuerefs() if (run := ref()) is not None]


class Finalizer(Emitter):
    """The end of a run: tidy, conclude, store, announce."""

    def _run_cleanup(self) -> None:
        """Run the hooks that clean up, on the run's own loop; go on when they are through."""
        try:
            cleanups = self.body.cleanup_hooks(self.compensate_requested)
        except Exception:  # a mistake of ours must not leave a reader waiting
            log.exception("run %s: its hooks could not be found", self.run_id, extra=self.ids)
            cleanups = []
        loop = self.tasks.loop
        if cleanups and loop is not None and self.record is not None:
            work = run_cleanups(cleanups, self.record.cleanup, self._tidying, self._tidy_token)
            self._tidying.loop = loop

            def go() -> None:
                self._tidying.start(work).add_done_callback(lambda task: self._on_cleanup_done(task))

            try:
                loop.call_soon_threadsafe(go)
                return
            except RuntimeError:  # the loop is closed: there is nowhere to clean up
                work.close()
        self._on_cleanup_done(None)

    def _on_cleanup_done(self, task: asyncio.Task[None] | None) -> None:
        if task is not None and not task.cancelled():
            task.exception()  # seen
        with self.lock:
            self.scope.cleanup = CleanupState.done
        self._advance()

    def _finalize(self) -> None:
        """Record the end, then tell it."""
        cancelled = self.scope.status is RunStatus.cancelling
        status = RunStatus.cancelled if cancelled else self.scope.status
        events = self._finish_output(status)
        future = self._save(status)
        if future is None:
            self._settle(events)
        else:
            future.add_done_callback(lambda done: self._stored(done.exception(), events))

    def _finish_output(self, status: RunStatus) -> list[Any]:
        """Finish the output of a run whose outcome is decided; return the closing events."""
        for timer in self._limits:
            timer.cancel()
        if self.record is not None:
            self.record.settled_at = time.time()
            self.body.output.cancel = self.record
        self.body.output.status, self.body.output.store_error = status, None
        try:
            events = self.body.terminal_events(status, self.error)
        except Exception:  # a mistake of ours must not leave a reader waiting
            log.exception("run %s: its closing events could not be made", self.run_id, extra=self.ids)
            events = []
        if self.recorder is not None:
            with self.lock:
                last = self.bridge.terminal_items(event for event in events if self.body.is_visible(event))
                self.recorder.end(last if self._records_terminal_event else (), self.bridge.count)
        if self.spans is not None:
            self.spans.end(status, self.record, self.error, self.body.output)
        return events

    def _stored(self, error: BaseException | None, events: list[Any]) -> None:
        """The store has answered. The end is told in any case, and says if it isn't known to be stored."""
        if error is not None:
            self._not_stored(error)
        self._settle(events)

    def _not_stored(self, error: BaseException) -> None:
        self.body.output.store_error = str(error) or type(error).__name__
        log.error("run %s could not be stored: %s", self.run_id, error, extra=self.ids)

    def to_stored(self, status: RunStatus) -> StoredRun:
        """Return the run as a store takes it."""
        parent, body = self.scope.parent, self.body
        return StoredRun(
            run_id=self.run_id,
            kind=body.kind,
            status=status,
            output=body.output,
            root_run_id=self.root.run_id,
            parent_run_id=parent.run_id if parent else None,
            session_id=getattr(body.output, "session_id", None),
            owner_id=getattr(body.output, f"{body.kind}_id", None),
            user_id=getattr(body.output, "user_id", None),
            created_at=self.created_at,
            resumable=parent is None and getattr(body, "resumable", False),
            session=getattr(body, "session", None),
            recorder=self.recorder,
            options=self.options,
        )

    def snapshot(self) -> StoredRun:
        """Return a live run as it is at this moment, for who looks at it: a copy, with what was said by now."""
        with self.lock:
            output = copy.copy(self.body.output)
            for name in _GROWING:
                if isinstance(held := getattr(output, name, None), list):
                    setattr(output, name, list(held))
            if output.content is None:
                output.content = self.body.partial_content()
            return replace(self.to_stored(self.status), output=output)

    def _save(self, status: RunStatus) -> Any:
        try:
            return self.store.save_run(self.to_stored(status))
        except Exception as error:
            log.debug("run %s: the store failed", self.run_id, exc_info=True, extra=self.ids)
            self._not_stored(error)
            return None

    def _settle(self, events: list[Any]) -> None:
        with self.lock:
            parent = self.scope.parent
            self.scope.settle()
            if self.stream_owner is self:
                shown = [event for event in events if self.body.is_visible(event)]
                self.bridge.close(shown)
            else:
                self._emit_terminal_events(events)
        if isinstance(self.bridge, ReplayChannel) and self.stream_owner is self:
            recent_streams.add(self.run_id, self.bridge)  # first: whoever follows finds it here or there
        self._unregister()
        if self.scope.work or self.scope.grace_expired:
            _left_behind[id(self)] = self
        log.info("%s run %s has ended: %s", self.body.kind, self.run_id, self.scope.status.value, extra=self.ids)
        self.settled.set()
        if parent is not None:
            parent.owner._advance()

    @property
    def _records_terminal_event(self) -> bool:
        """Whether its end is the run's, and not only that of this process's part in it."""
        return True

    def _unregister(self) -> None:
        """Leave the registry, which remembers how it ended."""
        registry.end(self.scope.owner, self.scope.status)

    def _emit_terminal_events(self, events: list[Any]) -> None:
        """A bound child's closing events: held while the whole tree is stopping, so that none is heard too early."""
        teller = self.stream_owner
        for event in events:
            if teller.scope.status is RunStatus.cancelling:
                if teller.on_event is not None:
                    teller.on_event(event)
                if teller.body.is_visible(event):
                    teller.bridge.put_deferred(event)
            else:
                self._put(event)
