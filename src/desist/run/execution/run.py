"""A run: one execution of a body (the turns of an agent, the steps of a workflow).

The body is one task that emits into a channel and never yields to a consumer. Every decision is a step of the run's
`Scope` under the lock of the tree. What follows from a decision is done without the lock, by the thread that decided:
the canceller's, a loop's, or the timer thread.

    request -> decide (lock) -> interrupt -> [work ends | grace expires: abandon] -> clean up -> store -> emit the end

`Run` holds what its parts share: `emitter` (events and results), `interruption` (stopping the work), `finalizer` (the
end), `ownership` (this process or a shared record), `limits` (deadlines and budgets).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Protocol, cast

from desist.calls.started.started_work import set_started_work
from desist.cancel.context import set_owner
from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import CancelReceipt, CancelRecord
from desist.cancel.registry import registry
from desist.cancel.scope import NextAction, Reach, Scope
from desist.cancel.signals import source_of
from desist.cancel.status import RunStatus
from desist.cancel.token import CancelToken, set_current
from desist.exceptions import DesistError, RunCancelled
from desist.run.cancellation_management.ownership import managed_ownership
from desist.run.execution.body import RunBody
from desist.run.execution.branch import current_branch, enter_branch
from desist.run.execution.call_interruption import CallInterruption, interrupt_all
from desist.run.execution.cancel_decision import CancellableRun, decide
from desist.run.execution.emitter import Emitter
from desist.run.execution.finalizer import Finalizer, runs_with_abandoned_work
from desist.run.execution.interruption import Interruption, apply_decision
from desist.run.execution.limits import RunLimits
from desist.run.execution.ownership import LocalOwnership, Ownership
from desist.run.execution.pausing import PauseRun, begin_pause, pause_error
from desist.run.execution.run_snapshot import snapshot, to_stored
from desist.run.execution.store_ownership import StoreOwnership
from desist.run.options.idempotency import child_key, set_work_key
from desist.run.records.ids import new_id
from desist.run.storage.shared_store import RunCoordinator, shared_store
from desist.run.storage.store import RunStore
from desist.run.storage.values import CancelRequest, StoredRun
from desist.run.telemetry.gate import trace_run
from desist.run.telemetry.span_info import SpanInfo
from desist.runtime.background_loop import background_loop, refuse_at_exit, refuse_green_threads
from desist.runtime.latch import Latch
from desist.runtime.run_tasks import RunTasks, set_tasks
from desist.runtime.signal_wakeup import wake_for_signals
from desist.streams.channel import EventChannel
from desist.streams.reader import EXCEPTIONS_IN_TASKS, stop_and_wait_async, stop_soon

__all__ = ["DEFAULT_GRACE", "Run", "collect_opened", "current_run", "new_id", "runs_with_abandoned_work"]

#: Seconds for cleanup after a cancel, before running work is abandoned.
DEFAULT_GRACE = 0.05
log = logging.getLogger("desist.run")
_RUNNING = RunStatus.running
_current: contextvars.ContextVar[Run | None] = contextvars.ContextVar("desist_run", default=None)
#: The runs that `collect_opened` collects in this thread.
_opened: contextvars.ContextVar[list[Run] | None] = contextvars.ContextVar("desist_opened", default=None)


def _has_live_runs(loop: asyncio.AbstractEventLoop) -> bool:
    return any(cast(Run, run).tasks.loop is loop for run in registry.live())


@contextlib.contextmanager
def collect_opened(opened: list[Run]) -> Iterator[None]:
    """Add the runs that this thread opens in the block to `opened`."""
    before = _opened.set(opened)
    try:
        yield
    finally:
        _opened.reset(before)


def current_run() -> Run | None:
    """Return the run that this code works for, or None outside of any."""
    return _current.get()


class ExecutableBody(RunBody, Protocol):
    """The body of a run, with its work."""

    async def execute(self, run: Run) -> None:
        """Do the work. Returning means completed, if no cancel came first; an exception means failed."""


class Run:
    """One execution. `open` it, then `start` it; read it, wait for it, cancel it, from any thread."""

    def __init__(
        self,
        body: ExecutableBody,
        *,
        run_id: str | None,
        store: RunStore,
        grace: float | None,
        parent: Run | None,
        bound: bool,
        replay: bool = False,
    ) -> None:
        bound_to = parent.emitter if parent is not None and bound else None
        self.run_id = run_id or new_id()
        self.body, self.store = body, store
        self.grace = DEFAULT_GRACE if grace is None else grace
        self.created_at, self.opened_at = time.time(), time.monotonic()  #: seconds since the epoch; monotonic
        self.ids = {"run_id": self.run_id, "root_run_id": self.run_id}  #: for log records and spans
        #: The prefix of the idempotency keys of the work.
        self.key: str = child_key(self.run_id, parent.key if parent else None, bound=bound)
        self.branch = current_branch()  #: the branch of parallel work in which the run was started
        #: The record that other processes see and cancel; None if only this process knows the run.
        self.shared: RunCoordinator | None = shared_store(store) or managed_ownership(store)
        self.lock: threading.Lock = parent.lock if parent else threading.Lock()  #: one for the whole tree
        self.scope: Scope[Run] = Scope(self.run_id, bound=bound, owner=self, needs_confirmation=self.shared is not None)
        self.token: CancelToken = parent.token.child() if parent else CancelToken()
        self.token.decided, self.token.ids = self.scope, self.ids
        self.tasks = RunTasks()
        self.settled = Latch()
        self.error: BaseException | None = None  #: raised by the body
        self._may_begin = True  #: until the start or the withdrawal, whichever is first; with the lock

        self.emitter: Emitter = Emitter(self, bound_to, replay=replay)
        self.interruption = Interruption(self)
        self.finalizer = Finalizer(self)
        self.ownership: Ownership = LocalOwnership(self) if self.shared is None else StoreOwnership(self, self.shared)
        self.limits: RunLimits = RunLimits(self, parent.limits if parent else None)
        self.channel: EventChannel[Any] = self.emitter.channel
        # Methods of the parts: some are called for each token, without a delegation between.
        self.emit, self.commit, self.checkpoint = self.emitter.emit, self.emitter.commit, self.emitter.checkpoint
        self.call_started, self.call_ended = self.interruption.call_started, self.interruption.call_ended
        self.connections_closed = self.interruption.connections_closed
        self.user_connections_closed = self.interruption.user_connections_closed
        self.spans = trace_run(SpanInfo(body.kind, body.output, self.scope))

    # -- the beginning

    @classmethod
    def open(
        cls,
        body: ExecutableBody,
        *,
        run_id: str | None = None,
        store: RunStore,
        grace: float | None = None,
        bound: bool = False,
        skip: bool = False,
        replay: bool = False,
    ) -> Run:
        """Register a run as a child of the current run. A run whose id has a pending cancel is cancelled at once.

        Parameters:
            body: the work.
            run_id: the id; None for a new id.
            store: the store of the run.
            grace: seconds for cleanup after a cancel; None for the default.
            bound: whether a step of the parent waits for the run; then the parent's reader gets its events.
            skip: whether that step has on_cancel="skip".
            replay: keep the events for followers; the run has no reader of its own.

        Raises:
            RunIdInUseError: a live run has this id.
            DesistError: the interpreter is ending.
            ConfigurationError: threads are replaced by green ones.
        """
        refuse_at_exit()
        refuse_green_threads()
        parent = current_run()
        bound = bound and parent is not None
        run = cls(body, run_id=run_id, store=store, grace=grace, parent=parent, bound=bound, replay=replay)
        run.scope.detached = skip
        opened = _opened.get()
        if opened is not None:
            opened.append(run)
        with run.lock:  # one step: a cancel that finds the run in the registry must find its tree, too
            intent = registry.add(run)
            if parent is not None:
                parent.scope.add_child(run.scope)
                run.ids["root_run_id"] = run.root.run_id
            cancelled = run.scope.status is RunStatus.cancelling
            if cancelled:
                apply_decision([run.scope])
        if cancelled:
            run.interrupt([run.scope])
        elif intent is not None:
            run.cancel(intent)
        return run

    @contextlib.contextmanager
    def withdrawn_on_error(self) -> Iterator[None]:
        """Undo `open` if the block raises before the start: nothing remembers the run, and its id is free."""
        try:
            yield
        except BaseException:
            self._withdraw()
            raise

    def _withdraw(self) -> None:
        with self.lock:
            if not self._may_begin or self.scope.status is not RunStatus.pending:
                return
            self._may_begin = False
            registry.discard(self)
            if (parent := self.scope.parent) is not None:
                parent.children.pop(self.run_id, None)
        self.limits.close()
        if parent is not None:
            parent.owner.advance()  # the parent may have waited for this child only

    def start(self, loop: asyncio.AbstractEventLoop | None = None, *, wait: bool = True) -> Run:
        """Start the body on `loop`, which must be the running one, or on the background loop.

        A run whose start can't be given to the loop is withdrawn; the error is raised.

        Parameters:
            wait: return when the start is recorded. Else at once, for callers that wait for the end.
        """
        with self.withdrawn_on_error():
            self.tasks.loop = loop or background_loop.loop()
            context = contextvars.copy_context()
            if loop is None:
                # In the thread of the loop, where no signal handler runs: an exception of one could leave a lock of
                # the store held for ever.
                begun = Latch()

                def begin() -> None:
                    try:
                        self._begin(context)
                    finally:
                        begun.set()

                self.tasks.loop.call_soon_threadsafe(begin)
        if loop is not None:
            wake_for_signals(loop, partial(_has_live_runs, loop))
            self._begin(context)
        elif wait:
            begun.wait()
        return self

    def _begin(self, context: contextvars.Context) -> None:
        """Record the start, and start the task of the body. On the loop; does nothing if a cancel came first."""
        try:
            with self.lock:
                if not self._may_begin or self.scope.status is not RunStatus.pending:
                    return
                self._may_begin = False
                claim = self.ownership.record_start()
            if claim is not None:
                claim.add_done_callback(self.ownership.on_claimed)
            log.debug("%s run %s starts", self.body.kind, self.run_id, extra=self.ids)
            context.run(self._enter_context)
            self.tasks.start(self._main(), context)
        except BaseException as error:
            with self.lock:
                begun = self.scope.begin()
            if begun:  # the start may be recorded, and so must the end be; the body, if it comes, finds it there
                self._end_body(error)

    def _enter_context(self) -> None:
        _current.set(self)
        enter_branch(None)
        set_work_key(None)
        set_owner(self)
        set_started_work(None)  # the run may be started in a call: the tree owns it, not that call
        set_tasks(self.tasks)
        set_current(self.token)
        if self.spans is not None:
            self.spans.enter()

    # -- the body

    async def _main(self) -> None:
        await self.ownership.wait_claimed()
        with self.lock:
            if not self.scope.begin():
                return
            self.body.output.status = _RUNNING
        failure: BaseException | None = None
        pausing = False
        try:
            self.emit(self.body.start_event())
            await self.body.execute(self)
        except PauseRun:
            failure = pause_error(self)
            pausing = failure is None
        except (asyncio.CancelledError, RunCancelled) as unwound:
            failure = self._explain_cancellation(unwound)
        except BaseException as error:
            failure = error
        self._end_body(failure, pausing=pausing)

    def _explain_cancellation(self, error: BaseException) -> BaseException | None:
        """Cancel the run if its body was unwound by a cancellation that no request caused; return its failure, if any.

        On the loop of the body. The body may raise `RunCancelled` itself, its loop may be closing, or its code may
        raise `CancelledError` without a cause, which is a mistake.
        """
        if self.scope.status is not _RUNNING:
            return None
        if isinstance(error, RunCancelled):
            reason = error.reason
            if not isinstance(reason, CancelReason):
                text = reason if isinstance(reason, str) else "RunCancelled was raised by the run's own code"
                reason = CancelReason(source=Source.user, text=text)
            self.cancel(reason)
            return None
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            self.stop(Source.shutdown, "the event loop is closing")
            return None
        return DesistError("asyncio.CancelledError was raised by the run's own code without a cancel")

    def _end_body(self, failure: BaseException | None, *, pausing: bool = False) -> None:
        """Record that the body has ended; then advance. A failure or pause counts only if no cancel was accepted."""
        if self.scope.grace_expired:
            log.info("run %s: an abandoned task ended late", self.run_id, extra=self.ids)
        with self.lock:
            self.error = failure
            self.scope.end_body(failed=failure is not None, pausing=pausing)
        self.advance()

    # -- the decision

    def cancel(
        self,
        reason: CancelReason,
        *,
        reach: Reach = "tree",
        grace: float | None = None,
        force: bool = False,
        compensate: bool = False,
    ) -> CancelReceipt:
        """Decide, interrupt, and return the receipt. From any thread; returns at once.

        A cancel of a run that another process has taken over waits for the record, which decides. A second call gets
        the first reason; it may shorten the grace.
        """
        request = CancelRequest(reason=reason, reach=reach, grace=grace, force=force, compensate=compensate)
        decision = decide(self, request)
        if decision.cancelled:
            self.interrupt(decision.cancelled, force, decision.grace)
        decision.record(request)
        return decision.receipt

    def interrupt(
        self, cancelled: Sequence[Scope[CancellableRun]], force: bool = False, grace: float | None = None
    ) -> None:
        """Interrupt the work of cancelled runs, children first. From any thread, without the lock; returns at once."""
        interrupt_all([CallInterruption([scope.owner for scope in cancelled], grace, force)])

    def stop(self, source: Source, text: str | None = None) -> CancelReceipt:
        """Cancel the tree, from inside the library. A second Ctrl-C forces."""
        repeated = source is Source.interrupt and self.scope.status is RunStatus.cancelling
        reach: Reach = "own" if source is Source.consumer_closed else "tree"
        return self.cancel(CancelReason(source=source, text=text, by="desist"), reach=reach, force=repeated)

    def advance(self) -> None:
        """Do the next action, if one is due. Called whenever work, a child, a cleanup or the grace has ended.

        From any thread, without the lock, any number of times: the scope's step changes the state, so that only one
        caller gets an action. What two threads do about different actions of one run never overlaps: each action is
        due only after the work of the one before it has called this method again.
        """
        cancelled: list[Scope[Run]] = []
        with self.lock:
            action = self.scope.advance()
            if action is NextAction.cancel_children:
                cancelled = self.scope.cancel_children()
                apply_decision(cancelled)
            elif action is NextAction.finalize:
                self.interruption.mark_delivered()  # the body may have ended before the interruption reached it
                if self.scope.status is RunStatus.paused:
                    begin_pause(self)  # in the step that decides: a cancel from now on finds the run there
        if cancelled:
            for scope in cancelled:  # each child that outlives the body has its own grace
                scope.owner.interruption.start_grace(scope.owner.grace, False)
            self.interrupt(cancelled)
        if action is NextAction.clean_up:
            self.finalizer.run_cleanup()
        elif action is NextAction.confirm_end:
            self.ownership.confirm_end()
        elif action is NextAction.finalize:
            self.finalizer.finalize()

    # -- waiting

    def wait(self) -> Any:
        """Wait in this thread until the run has ended and return its output."""
        self.settled.wait()
        return self._result()

    async def wait_async(self) -> Any:
        """Wait on this loop until the run has ended and return its output; being cancelled cancels the run."""
        try:
            await self.settled.wait_async()
        except EXCEPTIONS_IN_TASKS as error:
            source = Source.consumer_closed if self.token.cancelled else source_of(error)  # no second Ctrl-C
            await stop_and_wait_async(self, source, "the task that waited for the run was cancelled")
            raise
        except GeneratorExit:
            stop_soon(self, "the coroutine that waited for the run was closed")
            raise
        return self._result()

    def _result(self) -> Any:
        """Return the output. Code of a run that was cancelled meanwhile must not go on with it: raise there."""
        waiting = current_run()
        if waiting is not None and waiting.status in (RunStatus.cancelling, RunStatus.cancelled):
            raise RunCancelled(waiting.scope.reason)
        return self.body.output

    # -- the state

    @property
    def status(self) -> RunStatus:
        """The status now."""
        return self.scope.status

    @property
    def root(self) -> Run:
        """The run at the top of the tree."""
        return self.scope.root.owner

    @property
    def record(self) -> CancelRecord | None:
        """The record of the cancel; None if the run isn't cancelled. Made at the first access, from any thread."""
        if self.scope.reason is None:
            return None
        made: CancelRecord | None = self.__dict__.get("_record")
        # No lock, which the caller may hold: `setdefault` of a dict is atomic, and all threads get the same record.
        return made or self.__dict__.setdefault("_record", CancelRecord.of(self.scope.reason))

    @record.setter
    def record(self, record: CancelRecord | None) -> None:
        self.__dict__.pop("_record", None)
        if record is not None:
            self.__dict__["_record"] = record

    def check(self) -> None:
        """Raise `RunCancelled` if nothing new may start."""
        if self.scope.status is not _RUNNING:
            raise RunCancelled(self.scope.reason)

    def to_stored(self, status: RunStatus) -> StoredRun:
        """Return the run as a store takes it."""
        return to_stored(self, status)

    def snapshot(self) -> StoredRun:
        """Return the run as it is at this moment, with its partial content."""
        return snapshot(self)

    # -- ownership

    @property
    def owned_elsewhere(self) -> bool:
        """See `Ownership.owned_elsewhere`."""
        return self.ownership.owned_elsewhere

    async def confirm_ownership(self) -> None:
        """See `Ownership.confirm`. The record is that of the root."""
        await self.root.ownership.confirm()
        self.check()

    def ownership_lost(self, message: str) -> None:
        """Stop the run, because another process has it now; nothing more is recorded. From the polling thread."""
        self.cancel(CancelReason(source=Source.lease_lost, text=message, by="desist"))

    def apply_cancel_request(self, request: CancelRequest) -> None:
        """Cancel the run for another process. A request that arrives twice changes nothing."""
        if not self.ownership.owned_elsewhere:
            grace, force, compensate = request.grace, request.force, request.compensate
            self.cancel(request.reason, reach=request.reach, grace=grace, force=force, compensate=compensate)
