"""A run: it decides, interrupts, drains, records and tells, in that order.

A `Run` is one execution of a body (an agent's turns, a workflow's steps). The body is one task that emits into a
bridge and never yields to a consumer. Every decision is a step of its `Scope` under the lock of the tree; what the
decision asks for is done outside of the lock, by whoever decided: the canceller's thread, the loop, or the reaper.

    request -> decide + seal (lock) -> interrupt -> [work ends | grace ends: abandoned] -> conclude -> store -> tell

What a run knows is in `emitter`, its end in `finalizer`, stopping it in `interruption`; here it is opened, run and
awaited.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import Any

from desist.cancel.context import set_owner
from desist.cancel.reason import CancelReason, Source
from desist.cancel.registry import registry
from desist.cancel.signals import cancellation_source
from desist.cancel.status import RunStatus
from desist.cancel.token import set_current
from desist.exceptions import DesistError, RunCancelled
from desist.run.execution.body import RunBody
from desist.run.execution.branch import enter_branch
from desist.run.execution.emitter import DEFAULT_GRACE
from desist.run.execution.finalizer import runs_with_abandoned_work
from desist.run.execution.interruption import Interruption
from desist.run.options.idempotency import set_work_key
from desist.run.records.ids import new_id
from desist.run.storage.store import RunStore
from desist.runtime.background_loop import background_loop
from desist.runtime.run_tasks import set_tasks
from desist.streams.reader import AsyncReader, SyncReader, wait_settled, wait_settled_async

__all__ = ["DEFAULT_GRACE", "Run", "RunBody", "current_run", "new_id", "runs_with_abandoned_work"]

log = logging.getLogger("desist.run")
_RUNNING = RunStatus.running
_current: contextvars.ContextVar[Run | None] = contextvars.ContextVar("desist_run", default=None)


def current_run() -> Run | None:
    """Return the run that this code works for, or None outside of any."""
    return _current.get()


class Run(Interruption):
    """One execution. `open` it, then `start` it; read it, wait for it, cancel it from anywhere."""

    # -- the beginning

    @classmethod
    def open(
        cls,
        body: RunBody,
        *,
        run_id: str | None = None,
        store: RunStore,
        grace: float | None = None,
        bound: bool = False,
        skip: bool = False,
        replay: bool = False,
    ) -> Run:
        """Register a run as a child of the current one. A cancel that came first decides it here.

        Parameters:
            body: what to run.
            run_id: its id; None for a new one.
            store: where it is recorded.
            grace: seconds for cleanup after a cancel.
            bound: a step of the parent stands and falls with it, and the parent's reader hears of it.
            skip: that step says on_cancel="skip".
            kept: its events are kept, for whoever follows it; it has no reader of its own.

        Raises:
            RunIdInUseError: a live run has this id.
        """
        parent = current_run()
        bound = bound and parent is not None
        run = cls(body, run_id=run_id, store=store, grace=grace, parent=parent, bound=bound, replay=replay)
        run.scope.detached = skip
        with run.lock:  # whoever finds it by its id finds its tree, too
            intent = registry.add(run)
            if parent is not None:
                parent.scope.add_child(run.scope)
                run.ids["root_run_id"] = run.root.run_id
            born_cancelled = run.scope.status is RunStatus.cancelling
            if born_cancelled:
                run._apply_cancel_decision([run.scope])
        if born_cancelled:
            run._interrupt_all([run.scope])
        elif intent is not None:
            run.cancel(intent)
        return run

    def start(self, loop: asyncio.AbstractEventLoop | None = None) -> Run:
        """Start the body on `loop`, which is the running one, or on the home loop. Returns at once."""
        self.tasks.loop = loop or background_loop.loop()
        with self.lock:
            if self.scope.status is not RunStatus.pending:
                return self
            claim = self._start_record()
        if claim is not None:
            claim.add_done_callback(self._on_claimed)
        log.debug("%s run %s starts", self.body.kind, self.run_id, extra=self.ids)
        context = contextvars.copy_context()
        context.run(self._enter_context)

        def go() -> None:
            self.tasks.start(self._main(), context)

        if loop is not None:
            go()
        else:
            self.tasks.loop.call_soon_threadsafe(go)
        return self

    def _enter_context(self) -> None:
        _current.set(self)
        enter_branch(None)
        set_work_key(None)
        set_owner(self)
        set_tasks(self.tasks)
        set_current(self.token)
        if self.spans is not None:
            self.spans.enter()

    # -- the body

    async def _main(self) -> None:
        if self._claimed is not None:
            await self._wait_for_claim()
        with self.lock:
            if not self.scope.begin():
                return
            self.body.output.status = _RUNNING
        failure: BaseException | None = None
        try:
            self.emit(self.body.start_event())
            await self.body.execute(self)
        except (asyncio.CancelledError, RunCancelled) as unwound:
            failure = self._explain_cancellation(unwound)
        except BaseException as error:
            failure = error
        self._end_body(failure)

    def _explain_cancellation(self, error: BaseException) -> BaseException | None:
        """The body was unwound by a cancellation. If nobody of ours decided that, find out who did."""
        if self.scope.status is not _RUNNING:
            return None
        if isinstance(error, RunCancelled):
            given = error.reason
            text = given if isinstance(given, str) else "RunCancelled was raised by the run's own code"
            self.cancel(given if isinstance(given, CancelReason) else CancelReason(source=Source.user, text=text))
            return None
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            self.stop(Source.shutdown, "the event loop is closing")
            return None
        return DesistError("asyncio.CancelledError was raised by the run's own code, and nobody cancelled it")

    def _end_body(self, failure: BaseException | None) -> None:
        if self.scope.grace_expired:
            log.info("run %s: an abandoned task ended late", self.run_id, extra=self.ids)
        with self.lock:
            self.error = failure
            self.scope.end_body(failed=failure is not None)
        self._advance()

    # -- for those who wait

    def start_and_wait(self, *, streamed: bool) -> Any:
        """Start on the home loop; return a reader, or wait and return the output. A Ctrl-C on the way cancels it."""
        try:
            self.start()
            return self.reader() if streamed else self.wait()
        except KeyboardInterrupt:
            if not self.settled.is_set:
                self.stop(Source.interrupt, "Ctrl-C")
                wait_settled(self)
            raise

    def reader(self) -> SyncReader[Any]:
        """Return an iterator over the events, for threads."""
        return SyncReader(self)

    def async_reader(self) -> AsyncReader[Any]:
        """Return an async iterator over the events."""
        return AsyncReader(self)

    def wait(self) -> Any:
        """Wait in this thread until the run has ended and return its output; Ctrl-C cancels it."""
        try:
            self.settled.wait()
        except KeyboardInterrupt:
            self.stop(Source.interrupt, "Ctrl-C")
            wait_settled(self)
            raise
        return self._result()

    async def wait_async(self) -> Any:
        """Wait on this loop until the run has ended and return its output; being cancelled cancels the run."""
        try:
            await self.settled.wait_async()
        except asyncio.CancelledError:
            if not self.token.cancelled:
                self.stop(cancellation_source(), "the task that waited for the run was cancelled")
            await wait_settled_async(self)
            raise
        return self._result()

    def _result(self) -> Any:
        """Return the output; but whoever waited in a run that is cancelled itself must not go on."""
        asker = current_run()
        if asker is not None and asker.status in (RunStatus.cancelling, RunStatus.cancelled):
            raise RunCancelled(asker.scope.reason)
        return self.body.output
