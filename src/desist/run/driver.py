"""A run: it decides, interrupts, drains, records and tells, in that order.

A `Run` is one execution of a body (an agent's turns, a workflow's steps). The body is one task that emits into a
bridge and never yields to a consumer. Every decision is a step of its `Scope` under the lock of the tree; what the
decision asks for is done outside of the lock, by whoever decided: the canceller's thread, the loop, or the reaper.

    request -> decide + seal (lock) -> interrupt -> [work ends | grace ends: abandoned] -> conclude -> store -> tell

Nothing in here waits: each end of a task, a thread or a child asks `_advance()` what is due now.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import os
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from desist.cancel.bridge import Bridge
from desist.cancel.delivery import Tasks, set_tasks
from desist.cancel.home import home
from desist.cancel.pulse import Pulse
from desist.cancel.reader import AsyncReader, SyncReader, wait_settled, wait_settled_async
from desist.cancel.reaper import Timer, reaper
from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import Abandoned, CancelReceipt, CancelRecord, Latch
from desist.cancel.registry import registry
from desist.cancel.scope import Body as BodyState
from desist.cancel.scope import Next, Outcome, Reach, Scope, Tidy
from desist.cancel.signals import why_cancelled
from desist.cancel.status import RunStatus
from desist.cancel.token import CancelToken, set_current
from desist.cancel.work import Stoppable
from desist.cancel.worker import set_owner
from desist.exceptions import DesistError, RunCancelled
from desist.run.budget import Budget, Spending
from desist.run.cleanup import Cleanup, run_cleanups
from desist.run.store import RunStore, StoredRun
from desist.run.tracing import trace_run

if TYPE_CHECKING:
    from desist.run.telemetry import Spans

__all__ = ["DEFAULT_GRACE", "Body", "Run", "current_run", "left_behind", "new_id"]

log = logging.getLogger("desist.run")

#: Seconds for cleanup after a cancel, before what is left is abandoned.
DEFAULT_GRACE = 0.05
#: Seconds that a forced cancel leaves for unwinding without cleanup.
FORCED_GRACE = 0.01

#: Seconds between two looks at a loop that is busy when a grace is over, and how long it may be late in all.
PULSE, LATE = 0.003, 1.0

_RUNNING = RunStatus.running
_current: contextvars.ContextVar[Run | None] = contextvars.ContextVar("desist_run", default=None)
#: Runs that ended while something of theirs went on; gone when that has ended.
_left_behind: weakref.WeakValueDictionary[int, Run] = weakref.WeakValueDictionary()
os.register_at_fork(after_in_child=_left_behind.clear)


def current_run() -> Run | None:
    """Return the run that this code works for, or None outside of any."""
    return _current.get()


def left_behind() -> list[Run]:
    """Return the runs that have ended and left work behind which may still go on."""
    return [run for ref in _left_behind.valuerefs() if (run := ref()) is not None]


def new_id() -> str:
    """Return a fresh run id."""
    return str(uuid.uuid4())


class Body(Protocol):
    """What is run. It says how its story is told; it never decides how it ends."""

    kind: str  #: "workflow" or "agent"
    output: Any  #: RunOutput or WorkflowRunOutput; changed only through `Run.emit` and `Run.commit`

    def began(self) -> Any:
        """Return the first event."""

    async def work(self, run: Run) -> None:
        """Do it. Returning means completed, if no cancel came first; an exception means failed."""

    def conclude(self, status: RunStatus, error: BaseException | None) -> list[Any]:
        """Finish the output and return the closing events, the terminal one last. Must not fail or block."""

    def cleanups(self, compensate: bool) -> list[Cleanup]:
        """Return the hooks that clean up after a cancel, in the order in which they are to run."""

    def doing(self) -> str:
        """Return what it is at: the names of tools or steps."""

    def shows(self, event: Any) -> bool:
        """Whether the reader of this run sees the event: its own, or one of a bound child."""


class Run:
    """One execution. `open` it, then `start` it; read it, wait for it, cancel it from anywhere."""

    def __init__(
        self, body: Body, *, run_id: str | None, store: RunStore, grace: float | None, parent: Run | None, bound: bool
    ) -> None:
        self.run_id = run_id or new_id()
        self.body = body
        self.store = store
        self.grace = DEFAULT_GRACE if grace is None else grace
        self.lock: threading.Lock = parent.lock if parent else threading.Lock()
        self.scope = Scope(self.run_id, bound=bound, owner=self)
        self.token: CancelToken = parent.token.child() if parent else CancelToken()
        self.record: CancelRecord | None = None
        self.settled = Latch()
        self.error: BaseException | None = None
        self.tasks = Tasks()
        self.teller: Run = parent.teller if parent and bound else self  #: the run whose reader hears of this one
        self.bridge: Bridge[Any] = self.teller.bridge if bound and parent else Bridge(self.lock)
        self.spending: tuple[Spending, ...] = parent.spending if parent else ()
        self._due = 0.0
        self._pulses: dict[asyncio.AbstractEventLoop, Pulse] = {}
        self._forced = False
        self.limited_here = False  #: whether whoever started it has put an end to it: a step's timeout
        self.compensate = False  #: whether a cancel asked for compensations
        self._tidying = Tasks()
        self._tidy_token = CancelToken()
        self._limits: list[Timer] = []
        self.opened_at = time.monotonic()
        self.ids = {"run_id": self.run_id, "root_run_id": self.run_id}  #: what a log record about it carries
        self.token.ids = self._tidy_token.ids = self.ids
        self.spans: Spans | None = trace_run(self)

    # -- the beginning

    @classmethod
    def open(
        cls,
        body: Body,
        *,
        run_id: str | None = None,
        store: RunStore,
        grace: float | None = None,
        bound: bool = False,
        skip: bool = False,
    ) -> Run:
        """Register a run as a child of the current one. A cancel that came first decides it here.

        Parameters:
            body: what to run.
            run_id: its id; None for a new one.
            store: where it is recorded.
            grace: seconds for cleanup after a cancel.
            bound: a step of the parent stands and falls with it, and the parent's reader hears of it.
            skip: that step says on_cancel="skip".

        Raises:
            RunIdInUseError: a live run has this id.
        """
        parent = current_run()
        run = cls(body, run_id=run_id, store=store, grace=grace, parent=parent, bound=bound and parent is not None)
        run.scope.skip = skip
        with run.lock:  # whoever finds it by its id finds its tree, too
            intent = registry.add(run)
            if parent is not None:
                parent.scope.adopt(run.scope)
                run.ids["root_run_id"] = run.root.run_id
            born_cancelled = run.scope.status is RunStatus.cancelling
            if born_cancelled:
                run._fell([run.scope])
        if born_cancelled:
            run._interrupt([run.scope])
        elif intent is not None:
            run.cancel(intent)
        return run

    def start(self, loop: asyncio.AbstractEventLoop | None = None) -> Run:
        """Start the body on `loop`, which is the running one, or on the home loop. Returns at once."""
        self.tasks.loop = loop or home.loop()
        with self.lock:
            if self.scope.status is not RunStatus.pending:
                return self
            self._save(RunStatus.pending)
        log.debug("%s run %s starts", self.body.kind, self.run_id, extra=self.ids)
        context = contextvars.copy_context()
        context.run(self._enter)

        def go() -> None:
            self.tasks.start(self._main(), context)

        if loop is not None:
            go()
        else:
            self.tasks.loop.call_soon_threadsafe(go)
        return self

    def _enter(self) -> None:
        _current.set(self)
        set_owner(self)
        set_tasks(self.tasks)
        set_current(self.token)
        if self.spans is not None:
            self.spans.enter()

    def limit(self, seconds: float | None, what: str, reach: Reach = "run") -> None:
        """Cancel this run when `seconds` have passed, with source `deadline`."""
        if seconds is not None:
            text = f"{what} of {seconds:g} s is over" if seconds > 0 else f"{what} is over"

            def over() -> None:
                receipt = self.cancel(CancelReason(source=Source.deadline, text=text, by="desist"), reach=reach)
                self.limited_here = reach == "own" and receipt.outcome is Outcome.accepted

            if seconds > 0:
                self._limits.append(reaper.at(time.monotonic() + seconds, over))
            else:
                over()

    def spend_within(self, budget: Budget | None) -> None:
        """Count what this run and all below it spend, and cancel it past the budget. Before it is started."""
        if budget is not None:
            self.spending = (*self.spending, Spending(self, budget))

    @property
    def root(self) -> Run:
        """The run at the top of the tree."""
        owner: Run = self.scope.root.owner
        return owner

    @property
    def status(self) -> RunStatus:
        """Where it stands now."""
        return self.scope.status

    # -- the body

    async def _main(self) -> None:
        with self.lock:
            if not self.scope.begin():
                return
            self.body.output.status = _RUNNING
        failure: BaseException | None = None
        try:
            self.emit(self.body.began())
            await self.body.work(self)
        except (asyncio.CancelledError, RunCancelled) as unwound:
            failure = self._unwound(unwound)
        except BaseException as error:
            failure = error
        self._end_body(failure)

    def _unwound(self, error: BaseException) -> BaseException | None:
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
        if self.scope.given_up:
            log.info("run %s: an abandoned task ended late", self.run_id, extra=self.ids)
        with self.lock:
            self.error = failure
            self.scope.end_body(failed=failure is not None)
        self._advance()

    def emit(self, event: Any, apply: Callable[[], object] | None = None) -> None:
        """Tell the reader, and do what belongs to it, unless the outcome is decided.

        Parameters:
            event: what to tell.
            apply: changes the output; happens exactly if the event counts.

        Raises:
            RunCancelled: the run takes nothing more.
        """
        with self.lock:
            if self.scope.status is not _RUNNING:
                raise RunCancelled(self.scope.reason)
            if apply is not None:
                apply()
            self._tell(event)

    def commit(self, apply: Callable[[], object]) -> None:
        """Record a result, unless the outcome is decided.

        Raises:
            RunCancelled: the run takes nothing more.
        """
        with self.lock:
            if self.scope.status is not _RUNNING:
                raise RunCancelled(self.scope.reason)
            apply()

    def check(self) -> None:
        """Raise `RunCancelled` if nothing new may start."""
        if self.scope.status is not _RUNNING:
            raise RunCancelled(self.scope.reason)

    def _tell(self, event: Any) -> None:
        """Put an event where it is heard. With the lock held."""
        teller = self.teller
        if teller.bridge.closed or not teller.body.shows(event):
            return
        event.event_index = teller.bridge.count
        teller.bridge.put(event)

    # -- work in threads, connections: what the cancel floor tells a run

    def work_started(self, work: Stoppable) -> None:
        """Take a blocking call on. Raises `RunCancelled` if no new work may start."""
        with self.lock:
            if self.scope.status is not _RUNNING:
                raise RunCancelled(self.scope.reason)
            self.scope.work.add(work)

    def work_ended(self, work: Stoppable) -> None:
        """A blocking call is out of its thread."""
        with self.lock:
            self.scope.work.discard(work)
            waiting = self.scope.status is RunStatus.cancelling
        if waiting:
            self._advance()
            if work.interrupt_by == "never":  # the grace may have been over for long
                self.root._overrun()

    def connections_closed(self, count: int) -> None:
        """Connections to providers were shut down."""
        if self.record is not None:
            self.record.upstream_closed += count
            top = self.root.record
            if top is not None and top is not self.record:
                top.upstream_closed += count

    # -- cancelling

    def cancel(
        self,
        reason: CancelReason,
        *,
        reach: Reach = "tree",
        grace: float | None = None,
        force: bool = False,
        compensate: bool = False,
    ) -> CancelReceipt:
        """Decide, interrupt, answer. From any thread; returns at once."""
        with self.lock:
            verdict = self.scope.request(reason, reach)
            if verdict.hits:
                self._fell(verdict.hits)
                for hit in verdict.hits:
                    hit.owner.compensate = compensate
        target: Run = verdict.target.owner
        if verdict.hits:
            top: Run = verdict.hits[-1].owner
            grace = top.grace if grace is None else grace
            top._give_grace(grace, force)
            self._interrupt(verdict.hits, force, grace)
        elif verdict.outcome is Outcome.already_cancelling and (force or grace is not None):
            target._hurry(grace or 0.0, force)
        return CancelReceipt(verdict.outcome, target.run_id, lambda: target.scope.status, target.record, target.settled)

    def stop(self, source: Source, text: str | None = None) -> CancelReceipt:
        """Cancel the tree, from inside the library."""
        repeated = source is Source.interrupt and self.scope.status is RunStatus.cancelling
        reach: Reach = "own" if source is Source.consumer_closed else "tree"
        return self.cancel(CancelReason(source=source, text=text, by="desist"), reach=reach, force=repeated)

    def _fell(self, hits: Iterable[Scope]) -> None:
        """Note what was just decided, and drop what isn't delivered. With the lock held."""
        runs: list[Run] = [hit.owner for hit in hits]
        for run in runs:
            assert run.scope.reason is not None
            run.record = CancelRecord.of(run.scope.reason)
            run.body.output.status = RunStatus.cancelling
            run.body.output.cancel = run.record
            if run.tasks.loop is not None:  # else it never started: there is nothing to clean up
                run.scope.tidy = Tidy.due
        ids = {run.run_id for run in runs}
        for teller in {id(run.teller): run.teller for run in runs}.values():
            if teller.run_id in ids:  # also what a child said that has ended since
                teller.bridge.drop(lambda event: event.is_content)
            else:
                teller.bridge.drop(lambda event: event.is_content and event.run_id in ids)

    def _interrupt(self, hits: Iterable[Scope], force: bool = False, grace: float | None = None) -> None:
        """Stop what these runs do, children first, from this thread. Without the lock."""
        runs: list[Run] = [hit.owner for hit in hits]
        for run in runs:
            run.token.cancel(run.scope.reason)
            assert run.record is not None
            run.record.delivered_at = time.time()
        for run in runs:
            given = run.grace if grace is None else grace
            run._deliver(given, force)
            for work in list(run.scope.work):
                work.stop(given, force=force)
            run._advance()
        for run in runs:
            log.info("run %s is being cancelled: %s", run.run_id, run.scope.reason, extra=run.ids)

    def _deliver(self, grace: float, force: bool) -> None:
        if self.scope.body is not BodyState.ended:
            self.tasks.deliver(grace, lambda: self.scope.body is not BodyState.ended, force=force)

    def _give_grace(self, grace: float, force: bool) -> None:
        self._due = time.monotonic() + (FORCED_GRACE if force else grace)
        self._forced = force
        reaper.at(self._due, self._overrun)

    def _hurry(self, grace: float, force: bool) -> None:
        """A repeated cancel can only shorten the grace."""
        due = time.monotonic() + (FORCED_GRACE if force else grace)
        with self.lock:
            runs: list[Run] = [scope.owner for scope in self.scope.walk()]
            for run in runs:
                run._forced = run._forced or force
            if due < self._due or force:
                self._due = due
        for run in runs:
            if force:
                run._deliver(0.0, force)
            for work in list(run.scope.work):
                work.stop(0.0, force=True) if force else work.hurry(grace)
        reaper.at(due, self._overrun)

    def _overrun(self) -> None:
        """The grace is over. Called by the reaper."""
        with self.lock:
            due = max(self._due, *(scope.owner._spared_until() for scope in self.scope.walk()))
            late: list[Run] = []
            early = time.monotonic() < due
            if not early and self._is_late(due):
                early, due = True, time.monotonic() + PULSE
            if not early:
                late = [scope.owner for scope in self.scope.overrun()]
                for run in late:
                    run._abandon()
        if early and due < math.inf and self.scope.status is RunStatus.cancelling:
            reaper.at(due, self._overrun)
        told: set[int] = set()  # children come first; the records above them name the same work
        for run in late:
            for item in run.record.abandoned if run.record else ():
                if id(item) not in told:
                    told.add(id(item))
                    words = "run %s: %s %r could not be stopped and is abandoned"
                    log.warning(words, run.run_id, item.kind, item.name, extra=run.ids)
            if run.scope.tidy is Tidy.running:  # not under the lock: users' callbacks hang on the token
                run._tidy_token.cancel(run.scope.reason)
                run._tidying.deliver(0.0, lambda scope=run.scope: scope.tidy is Tidy.running, force=True)  # type: ignore[misc]
            run._advance()

    def _is_late(self, due: float) -> bool:
        """Whether what still runs is only late, because its loop is busy. With the lock held."""
        if self._forced or time.monotonic() > due + LATE:
            return False
        loops = {loop for scope in self.scope.walk() if not scope.concluding for loop in scope.owner._loops()}
        for loop in loops:
            self._pulses.setdefault(loop, Pulse(loop))
        return any([self._pulses[loop].look() == "late" for loop in loops])

    def _loops(self) -> set[asyncio.AbstractEventLoop]:
        """Return the loops on which something of it still lives."""
        loops = {getattr(work, "loop", None) for work in self.scope.work}
        if self.scope.body is not BodyState.ended or self.scope.tidy is Tidy.running:
            loops.add(self.tasks.loop)
        return {loop for loop in loops if loop is not None}

    def _spared_until(self) -> float:
        """Until when what it does must not be given up, in seconds of `time.monotonic`."""
        dying = max((float(work.dying_until) for work in self.scope.work), default=0.0)
        if self._forced:
            return dying
        if any(work.interrupt_by == "never" for work in self.scope.work):
            return math.inf
        spared = [float(work.shielded_until) for work in self.scope.work]
        return max(self.tasks.shielded_until, dying, *spared)

    def _abandon(self) -> None:
        """Name what is still running. With the lock held."""
        assert self.record is not None
        given_up = [work.abandon() for work in self.scope.work]
        if self.scope.tidy is Tidy.running:
            hooks = [hook for hook in self.record.cleanup if hook.status == "running"]
            given_up += [Abandoned(name=hook.name, kind=hook.kind) for hook in hooks]
        told = bool(self.record.abandoned)  # what hangs below it, and is the reason that it hangs
        if self.scope.body is not BodyState.ended and not given_up and not told:
            given_up.append(
                Abandoned(name=self.body.doing() or self.body.kind, kind="task", blocked_in=self.tasks.stack() or None)
            )
        self.record.abandoned += given_up
        above = self.scope.parent
        while above is not None:
            if above.owner.record is not None:
                above.owner.record.abandoned += given_up
            above = above.parent

    # -- the end

    def _advance(self) -> None:
        """Do what is due: join the children, or conclude."""
        hits: list[Scope] = []
        with self.lock:
            due = self.scope.advance()
            if due is Next.reap:
                hits = self.scope.reap()
                self._fell(hits)
        if hits:
            for hit in hits:
                hit.owner._give_grace(hit.owner.grace, False)
            self._interrupt(hits)
        if due is Next.tidy:
            self._tidy()
        if due is Next.conclude:
            self._conclude()

    def _tidy(self) -> None:
        """Run the hooks that clean up, on the run's own loop; go on when they are through."""
        try:
            cleanups = self.body.cleanups(self.compensate)
        except Exception:  # a mistake of ours must not leave a reader waiting
            log.exception("run %s: its hooks could not be found", self.run_id, extra=self.ids)
            cleanups = []
        loop = self.tasks.loop
        if cleanups and loop is not None and self.record is not None:
            work = run_cleanups(cleanups, self.record.cleanup, self._tidying, self._tidy_token)
            self._tidying.loop = loop

            def go() -> None:
                self._tidying.start(work).add_done_callback(lambda task: self._tidied(task))

            try:
                loop.call_soon_threadsafe(go)
                return
            except RuntimeError:  # the loop is closed: there is nowhere to clean up
                work.close()
        self._tidied(None)

    def _tidied(self, task: asyncio.Task[None] | None) -> None:
        if task is not None and not task.cancelled():
            task.exception()  # seen
        with self.lock:
            self.scope.tidy = Tidy.done
        self._advance()

    def _conclude(self) -> None:
        """Record the end, then tell it."""
        for timer in self._limits:
            timer.cancel()
        cancelled = self.scope.status is RunStatus.cancelling
        status = RunStatus.cancelled if cancelled else self.scope.status
        if self.record is not None:
            self.record.settled_at = time.time()
        self.body.output.status = status
        try:
            events = self.body.conclude(status, self.error)
        except Exception:  # a mistake of ours must not leave a reader waiting
            log.exception("run %s: its closing events could not be made", self.run_id, extra=self.ids)
            events = []
        if self.spans is not None:
            self.spans.end(status, self.record, self.error, self.body.output)
        future = self._save(status)
        if future is None:
            self._announce(events)
        else:
            future.add_done_callback(lambda _: self._announce(events))

    def _save(self, status: RunStatus) -> Any:
        parent = self.scope.parent
        stored = StoredRun(
            run_id=self.run_id,
            kind=self.body.kind,
            status=status,
            output=self.body.output,
            root_run_id=self.root.run_id,
            parent_run_id=parent.run_id if parent else None,
            session_id=getattr(self.body.output, "session_id", None),
        )
        try:
            return self.store.save_run(stored)
        except Exception:
            log.exception("run %s could not be stored", self.run_id, extra=self.ids)
            return None

    def _announce(self, events: list[Any]) -> None:
        with self.lock:
            parent = self.scope.parent
            self.scope.announce()
            if self.teller is self:
                shown = [event for event in events if self.body.shows(event)]
                self.bridge.close(shown)
            else:
                self._tell_end(events)
        registry.end(self, self.scope.status)
        if self.scope.work or self.scope.given_up:
            _left_behind[id(self)] = self
        log.info("%s run %s has ended: %s", self.body.kind, self.run_id, self.scope.status.value, extra=self.ids)
        self.settled.set()
        if parent is not None:
            parent.owner._advance()

    def _tell_end(self, events: list[Any]) -> None:
        """A bound child's closing events: held while the whole tree is stopping, so that none is heard too early."""
        teller = self.teller
        for event in events:
            if teller.scope.status is RunStatus.cancelling and teller.body.shows(event):
                teller.bridge.hold(event)
            else:
                self._tell(event)

    # -- for those who wait

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
                self.stop(why_cancelled(), "the task that waited for the run was cancelled")
            await wait_settled_async(self)
            raise
        return self._result()

    def _result(self) -> Any:
        """Return the output; but whoever waited in a run that is cancelled itself must not go on."""
        asker = current_run()
        if asker is not None and asker.status in (RunStatus.cancelling, RunStatus.cancelled):
            raise RunCancelled(asker.scope.reason)
        return self.body.output
