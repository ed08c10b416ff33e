"""A run: one execution of a body (the turns of an agent, the steps of a workflow).

The body is one task that emits into a channel and never yields to a consumer. Every decision is a step of the run's
`Scope` under the lock of the tree. What follows from a decision is done without the lock, by the thread that decided:
the canceller's, a loop's, or the timer thread.

    request -> decide (lock) -> interrupt -> [work ends | grace expires: abandon] -> clean up -> store -> emit the end

`Run` holds what its parts share. The parts: `emitter` (events and results), `interruption` (stopping its work),
`finalizer` (its end), `ownership` (this process or a shared record), `limits` (deadlines and budgets). Code of users,
readers and other packages calls methods of `Run`, each of which names the part that does the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from desist.calls.base import Call
from desist.cancel.context import set_owner
from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import CancelReceipt, CancelRecord
from desist.cancel.registry import registry
from desist.cancel.scope import NextAction, Reach, Scope
from desist.cancel.signals import cancellation_source
from desist.cancel.status import RunStatus
from desist.cancel.token import CancelToken, set_current
from desist.exceptions import DesistError, RunCancelled
from desist.run.cancellation_management.ownership import managed_ownership
from desist.run.execution.body import RunBody
from desist.run.execution.branch import current_branch, enter_branch
from desist.run.execution.cancel_decision import decide
from desist.run.execution.emitter import Emitter
from desist.run.execution.finalizer import Finalizer, runs_with_abandoned_work
from desist.run.execution.interruption import Interruption, apply_decision
from desist.run.execution.limits import RunLimits
from desist.run.execution.ownership import LocalOwnership, Ownership, RunCoordinator
from desist.run.execution.run_snapshot import snapshot, to_stored
from desist.run.execution.store_ownership import StoreOwnership
from desist.run.options.budget import Budget, BudgetMeter
from desist.run.options.durable_limits import DurableLimits
from desist.run.options.idempotency import child_key, set_work_key
from desist.run.records.ids import new_id
from desist.run.storage.shared_store import shared_store
from desist.run.storage.store import PartKind, RunStore
from desist.run.storage.values import CancelRequest, StoredRun
from desist.run.telemetry.gate import trace_run
from desist.run.telemetry.span_info import SpanInfo
from desist.runtime.background_loop import background_loop, refuse_at_exit, refuse_green_threads
from desist.runtime.latch import Latch
from desist.runtime.run_tasks import RunTasks, set_tasks
from desist.streams.reader import AsyncReader, SyncReader, wait_settled, wait_settled_async

if TYPE_CHECKING:
    from desist.run.telemetry.spans import Spans

__all__ = ["DEFAULT_GRACE", "Run", "RunBody", "current_run", "new_id", "runs_with_abandoned_work"]

#: Seconds for cleanup after a cancel, before running work is abandoned.
DEFAULT_GRACE = 0.05
log = logging.getLogger("desist.run")
_RUNNING = RunStatus.running
_current: contextvars.ContextVar[Run | None] = contextvars.ContextVar("desist_run", default=None)


def current_run() -> Run | None:
    """Return the run that this code works for, or None outside of any."""
    return _current.get()


class Run:
    """One execution. `open` it, then `start` it; read it, wait for it, cancel it, from any thread."""

    def __init__(
        self,
        body: RunBody,
        *,
        run_id: str | None,
        store: RunStore,
        grace: float | None,
        parent: Run | None,
        bound: bool,
        replay: bool = False,
    ) -> None:
        bound_to = parent if bound else None
        self.run_id = run_id or new_id()
        self.body, self.store = body, store
        self.grace = DEFAULT_GRACE if grace is None else grace
        self.created_at, self.opened_at = time.time(), time.monotonic()  #: seconds since the epoch; monotonic
        self.ids = {"run_id": self.run_id, "root_run_id": self.run_id}  #: for log records and spans
        #: The prefix of the idempotency keys of its work.
        self.key: str = child_key(self.run_id, parent.key if parent else None, bound=bound)
        self.branch = current_branch()  #: of the parallel work that it was started in
        #: What other processes see of it, and may cancel it through; None: only this process knows it.
        self.shared: RunCoordinator | None = shared_store(store) or managed_ownership(store)
        self.lock: threading.Lock = parent.lock if parent else threading.Lock()  #: one for the whole tree
        self.scope: Scope[Run] = Scope(self.run_id, bound=bound, owner=self, needs_confirmation=self.shared is not None)
        self.token: CancelToken = parent.token.child() if parent else CancelToken()
        self.token.decided, self.token.ids = self.scope, self.ids
        self.tasks = RunTasks()
        self.settled = Latch()
        self.error: BaseException | None = None  #: that the body raised

        self.emitter = Emitter(self, bound_to, replay=replay)
        self.interruption = Interruption(self)
        self.finalizer = Finalizer(self)
        self.ownership: Ownership = LocalOwnership(self) if self.shared is None else StoreOwnership(self, self.shared)
        self.limits = RunLimits(self, parent)
        self.bridge = self.emitter.channel
        # Called for each token: the emitter's own methods, without a delegation between.
        self.emit, self.commit = self.emitter.emit, self.emitter.commit
        self.spans: Spans | None = trace_run(SpanInfo(body.kind, body.output, self.scope))

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
        """Register a run as a child of the current one. If a cancel for its id came earlier, it is born cancelled.

        Parameters:
            body: the work.
            run_id: its id; None for a new one.
            store: where it is recorded.
            grace: seconds for cleanup after a cancel.
            bound: a step of the parent waits for it, and the parent's reader gets its events.
            skip: that step has on_cancel="skip".
            replay: keep its events for followers; it has no reader of its own.

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
        with run.lock:  # one step: a cancel that finds the run in the registry must find its tree, too
            intent = registry.add(run)
            if parent is not None:
                parent.scope.add_child(run.scope)
                run.ids["root_run_id"] = run.root.run_id
            born_cancelled = run.scope.status is RunStatus.cancelling
            if born_cancelled:
                apply_decision([run.scope])
        if born_cancelled:
            run.interruption.interrupt([run.scope])
        elif intent is not None:
            run.cancel(intent)
        return run

    def start(self, loop: asyncio.AbstractEventLoop | None = None) -> Run:
        """Start the body on `loop`, which must be the running one, or on the background loop. Returns at once.

        A run that can't start is withdrawn; the error is raised.
        """
        with self.withdrawn_on_error():
            return self._start(loop)

    @contextlib.contextmanager
    def withdrawn_on_error(self) -> Iterator[None]:
        """Undo `open` if the block raises before the start: nothing remembers the run, and its id is free."""
        try:
            yield
        except BaseException:
            if self.scope.status is RunStatus.pending:
                registry.discard(self)
                self.limits.close()
                if (parent := self.scope.parent) is not None:
                    with self.lock:
                        parent.children.pop(self.run_id, None)
                    parent.owner.advance()  # the parent may have waited for this child only
            raise

    def _start(self, loop: asyncio.AbstractEventLoop | None) -> Run:
        self.tasks.loop = loop or background_loop.loop()
        with self.lock:
            if self.scope.status is not RunStatus.pending:
                return self
            claim: Future[Any] | None = self.ownership.record_start()
        try:
            if claim is not None:
                claim.add_done_callback(self.ownership.on_claimed)
            log.debug("%s run %s starts", self.body.kind, self.run_id, extra=self.ids)
            self._schedule(self.tasks.loop, here=loop is not None)
        except BaseException as error:
            with self.lock:
                begun = self.scope.begin()
            if begun:  # the start may be recorded, and so must the end be; the body, if it comes, finds it there
                self._end_body(error)
            raise
        return self

    def _schedule(self, loop: asyncio.AbstractEventLoop, *, here: bool) -> None:
        context = contextvars.copy_context()
        context.run(self._enter_context)

        def go() -> None:
            self.tasks.start(self._main(), context)

        if here:
            go()
        else:
            loop.call_soon_threadsafe(go)

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
        await self.ownership.wait_claimed()
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

    def _end_body(self, failure: BaseException | None) -> None:
        """Note that the body has ended; then advance. Its failure counts only if no cancel was accepted."""
        if self.scope.grace_expired:
            log.info("run %s: an abandoned task ended late", self.run_id, extra=self.ids)
        with self.lock:
            self.error = failure
            self.scope.end_body(failed=failure is not None)
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
            self.interruption.interrupt(decision.cancelled, force, decision.grace)
        decision.record(request)
        return decision.receipt

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
        if cancelled:
            self.interruption.stop_children(cancelled)
        if action is NextAction.clean_up:
            self.finalizer.run_cleanup()
        elif action is NextAction.confirm_end:
            self.ownership.confirm_end()
        elif action is NextAction.finalize:
            self.finalizer.finalize()

    # -- waiting and reading

    def start_and_wait(self, *, streamed: bool) -> Any:
        """Start on the background loop; return a reader, or wait and return the output. Ctrl-C cancels the run."""
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

    # -- delegations

    def checkpoint(self, kind: PartKind, value: Any, at: Mapping[str, Any] | None = None) -> None:
        """See `Emitter.checkpoint`."""
        self.emitter.checkpoint(kind, value, at)

    def call_started(self, call: Call) -> None:
        """See `Interruption.call_started`."""
        self.interruption.call_started(call)

    def call_ended(self, call: Call) -> None:
        """See `Interruption.call_ended`."""
        self.interruption.call_ended(call)

    def connections_closed(self, count: int) -> None:
        """See `Interruption.connections_closed`."""
        self.interruption.connections_closed(count)

    @property
    def grace_left(self) -> float | None:
        """See `Interruption.grace_left`."""
        return self.interruption.grace_left

    def set_deadline(self, seconds: float | None, what: str, reach: Reach = "run", until: float | None = None) -> None:
        """See `RunLimits.set_deadline`."""
        self.limits.set_deadline(seconds, what, reach, until)

    def set_budget(self, budget: Budget | None) -> None:
        """See `RunLimits.set_budget`."""
        self.limits.set_budget(budget)

    @property
    def stopped_by_own_deadline(self) -> bool:
        """See `RunLimits.stopped_by_own_deadline`."""
        return self.limits.stopped_by_own_deadline

    @property
    def spending(self) -> tuple[BudgetMeter, ...]:
        """See `RunLimits.meters`."""
        return self.limits.meters

    @property
    def options(self) -> DurableLimits:
        """See `RunLimits.durable`."""
        return self.limits.durable

    @property
    def owned_elsewhere(self) -> bool:
        """See `Ownership.owned_elsewhere`."""
        return self.ownership.owned_elsewhere

    def require_claim(self) -> None:
        """See `Ownership.require_claim`."""
        self.ownership.require_claim()

    def hand_over(self, message: str) -> CancelReceipt:
        """See `Ownership.hand_over`."""
        return self.ownership.hand_over(message)

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
            how = {"grace": request.grace, "force": request.force, "compensate": request.compensate}
            self.cancel(request.reason, reach=request.reach, **how)  # type: ignore[arg-type]  # one dict, three types
