"""The end of a run: hooks clean up, the output is finished, stored, and only then emitted. In that order."""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from typing import TYPE_CHECKING, Any, Protocol

from desist.cancel.run_phase import CleanupState
from desist.cancel.status import RunStatus
from desist.cancel.token import CancelToken
from desist.run.execution.cleanup import run_cleanups
from desist.run.execution.follow import recent_streams
from desist.run.execution.ownership import Ownership, note_store_error
from desist.run.execution.pausing import end_paused_children, finish_pause
from desist.run.execution.run_snapshot import StorableRun
from desist.run.storage.paused_runs import paused_runs
from desist.runtime.fork_hooks import register_at_fork
from desist.runtime.run_tasks import RunTasks
from desist.streams.replay_channel import ReplayChannel

if TYPE_CHECKING:
    from desist.run.telemetry.spans import Spans

__all__ = ["EndingRun", "Finalizer", "runs_with_abandoned_work"]

log = logging.getLogger("desist.run")


class EndingRun(StorableRun, Protocol):
    """A run that can be finalized."""

    spans: Spans | None
    ownership: Ownership


#: Runs that ended with work abandoned; an entry goes when that work, which refers to its run, has ended.
_with_abandoned_work: weakref.WeakValueDictionary[int, EndingRun] = weakref.WeakValueDictionary()
register_at_fork(after_in_child=_with_abandoned_work.clear)


def runs_with_abandoned_work() -> list[EndingRun]:
    """Return the runs that have ended and whose abandoned work may still go on."""
    return [run for ref in _with_abandoned_work.valuerefs() if (run := ref()) is not None]


class Finalizer:
    """Ends one run: clean up, finish the output, store, settle.

    `Run.advance` calls `run_cleanup` and `finalize`, each once: the step of the scope that returns the action changes
    the state, under the lock. The thread is that of the last work that ended: a loop, a thread call, the timer thread.
    """

    def __init__(self, run: EndingRun) -> None:
        self._run = run
        self.compensate_requested = False  #: whether an accepted cancel asked for compensations
        self.cleanup_tasks = RunTasks()
        #: The token that hooks see. The cancel that they belong to must not stop them; the end of the grace does.
        self.cleanup_token = CancelToken()
        self.cleanup_token.ids = run.ids

    # -- cleanup

    def run_cleanup(self) -> None:
        """Run the cleanup hooks on the run's own loop; then advance. Without the lock, after all work has ended."""
        run = self._run
        try:
            cleanups = run.body.cleanup_hooks(self.compensate_requested)
        except Exception:  # a bug here must not leave a reader waiting
            log.exception("run %s: its cleanup hooks could not be collected", run.run_id, extra=run.ids)
            cleanups = []
        loop = run.tasks.loop
        if cleanups and loop is not None and run.record is not None:
            work = run_cleanups(cleanups, run.record.cleanup, self.cleanup_tasks, self.cleanup_token)
            self.cleanup_tasks.loop = loop

            def start() -> None:
                self.cleanup_tasks.start(work).add_done_callback(self.on_cleanup_done)

            try:
                loop.call_soon_threadsafe(start)
                return
            except RuntimeError:  # the loop is closed: hooks can't run
                work.close()
        self.on_cleanup_done(None)

    def on_cleanup_done(self, task: asyncio.Task[None] | None) -> None:
        """Advance after the cleanup. If the grace has expired meanwhile, the run is over already: nothing happens."""
        if task is not None and not task.cancelled():
            task.exception()  # retrieved: asyncio would log it
        with self._run.lock:
            self._run.scope.end_cleanup()
        self._run.advance()

    def stop_cleanup(self) -> None:
        """Stop the hooks that still run: the grace is over. Without the lock: callbacks of users are called."""
        scope = self._run.scope
        self.cleanup_token.cancel(scope.reason)
        self.cleanup_tasks.cancel_until_done(0.0, lambda: scope.cleanup is CleanupState.running, force=True)

    # -- the end

    def finalize(self) -> None:
        """Finish the output, store the end, then settle. The outcome is decided. Called once, without the lock."""
        run = self._run
        status = RunStatus.cancelled if run.scope.status is RunStatus.cancelling else run.scope.status
        events = self.finish_output(status)
        try:
            stored = run.ownership.save(status)
        except Exception as error:
            log.debug("run %s: the store failed", run.run_id, exc_info=True, extra=run.ids)
            note_store_error(run, error)
            stored = None
        if stored is None:
            self.settle(events)
        else:
            stored.add_done_callback(lambda done: self._on_stored(done.exception(), events))

    def finish_output(self, status: RunStatus) -> list[Any]:
        """Finish the output of a run whose outcome is decided; return the closing events.

        Called once, without the lock, by the thread that decided: no other thread changes the output from then on.
        """
        run, output = self._run, self._run.body.output
        run.limits.close()
        if run.record is not None:
            run.record.settled_at = time.time()
            output.cancel = run.record
        output.status, output.store_error = status, None
        try:
            if status is not RunStatus.paused:
                end_paused_children(run)
            events = run.body.terminal_events(status, run.error)
        except Exception:  # a bug here must not leave a reader waiting
            log.exception("run %s: its terminal events could not be made", run.run_id, extra=run.ids)
            events = []
        run.emitter.record_terminal(events if run.ownership.records_terminal_event else [])
        if run.spans is not None:
            run.spans.end(status, run.record, run.error, output)
        return events

    def _on_stored(self, error: BaseException | None, events: list[Any]) -> None:
        """Settle after the store's answer, in the store's thread. On an error, too: the output says so."""
        if error is not None:
            note_store_error(self._run, error)
        self.settle(events)

    def settle(self, events: list[Any]) -> None:
        """Emit the closing events and wake all that wait for the run. Called once, from any thread, without the lock.

        The order holds guarantee 5: the status is final before a reader gets the terminal event; the registry answers
        with the final status before `settled` is set; the parent advances last, and its own end follows this one.
        """
        run = self._run
        paused = run.scope.status is RunStatus.paused
        if paused:
            self._leave_paused()  # first: the run is continued or cancelled as soon as its last event is read
        with run.lock:
            parent = run.scope.parent
            if not paused:
                run.scope.settle()
            run.emitter.put_terminal(events)
        channel = run.emitter.channel
        if isinstance(channel, ReplayChannel) and run.emitter.stream_owner is run.emitter:
            recent_streams.add(run.run_id, channel)  # before it leaves the registry: a follower looks in both
        if not paused:
            run.ownership.unregister()
        if run.scope.work or run.scope.grace_expired:
            _with_abandoned_work[id(run)] = run
        log.info("%s run %s has ended: %s", run.body.kind, run.run_id, run.scope.status.value, extra=run.ids)
        run.settled.set()
        if parent is not None:
            parent.owner.advance()

    def _leave_paused(self) -> None:
        """Hand a run whose pause is stored over to what waits for its answers. Without the lock."""
        run = self._run
        with run.lock:
            run.scope.settle()
        finish_pause(run)
        paused_runs.arrive(run.run_id)  # a cancel may have come meanwhile
