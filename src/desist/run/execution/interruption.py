"""Interrupting a cancelled run: its tasks and calls, the grace, and the abandoned work.

No method waits: each end of a task, a call or a child calls `Run.advance`, and so does the end of the grace.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

from desist.calls.base import Call
from desist.cancel.reason import Source
from desist.cancel.receipt import Abandoned
from desist.cancel.run_phase import BodyState, CleanupState
from desist.cancel.scope import Scope
from desist.cancel.status import RunStatus
from desist.exceptions import RunCancelled
from desist.run.execution.emitter import Emitter
from desist.run.execution.finalizer import Finalizer
from desist.run.execution.limits import RunLimits
from desist.run.execution.run_core import RunCore
from desist.runtime.helper_threads import interrupting_helpers
from desist.runtime.loop_probe import LoopProbe
from desist.runtime.timer_thread import timers

__all__ = ["FEW", "Action", "InterruptibleRun", "Interruption", "apply_decision"]

log = logging.getLogger("desist.run")

#: Seconds that a forced cancel leaves for unwinding without cleanup.
FORCED_GRACE = 0.01
#: Seconds between two probes of a loop that is busy when a grace expires, and how late it may be in all.
PROBE_INTERVAL, MAX_EXTENSION, LATE_FORCED = 0.003, 1.0, 0.1

#: How many runs and calls the calling thread interrupts by itself.
FEW = 16

#: One of several interruptions that don't depend on one another.
Action = Callable[[], object]

_RUNNING = RunStatus.running


class InterruptibleRun(RunCore, Protocol):
    """A run that can be interrupted, in a tree of such runs."""

    emitter: Emitter
    limits: RunLimits
    finalizer: Finalizer
    interruption: Interruption

    @property
    def scope(self) -> Scope[InterruptibleRun]:
        """The run as the decisions see it."""

    @property
    def root(self) -> InterruptibleRun:
        """The run at the top of the tree."""


class Interruption:
    """Stops one run, and those below it, after the decision.

    The fields are changed with the lock of the tree held, except `start_grace`, which only the thread that made the
    decision calls, once for a run.
    """

    def __init__(self, run: InterruptibleRun) -> None:
        self.run = run
        self.grace_deadline = 0.0  #: in seconds of `time.monotonic`
        self._grace: float | None = None  #: seconds; None for a run that was cancelled with one above it
        self.forced = False
        self.delivered = False  #: whether all work of the run has been interrupted
        self._loop_probes: dict[asyncio.AbstractEventLoop, LoopProbe] = {}

    @property
    def grace_left(self) -> float | None:
        """Seconds until running work is abandoned; None unless the run is being cancelled."""
        if self.run.scope.status is not RunStatus.cancelling:
            return None
        return max(0.0, self.grace_deadline - time.monotonic())

    # -- interrupting

    def deliver_to_tasks(self, grace: float, force: bool) -> None:
        """Cancel the tasks of the run on their loop, until the body has ended. From any thread."""
        scope = self.run.scope
        if scope.body is not BodyState.ended:
            self.run.tasks.cancel_until_done(grace, lambda: scope.body is not BodyState.ended, force=force)

    def on_delivered(self, *, late: bool) -> None:
        """All work of the run was interrupted. Without the lock.

        Parameters:
            late: that took a while, because there was much of it: the grace counts from now on.
        """
        with self.run.lock:
            self.delivered = True
            if late and self._grace is not None:
                self.grace_deadline = max(self.grace_deadline, time.monotonic() + self._grace)
        self.run.advance()

    def mark_delivered(self) -> None:
        """Record when the cancel reached the run, once. With the lock held."""
        record = self.run.record
        if record is not None and record.delivered_at is None:
            record.delivered_at = time.time()

    def show_cancelling(self) -> None:
        """Set the status of the output to cancelling, unless the run is finalizing. With the lock held."""
        run = self.run
        if run.scope.status is RunStatus.cancelling and not run.scope.finalizing:
            run.body.output.status, run.body.output.cancel = RunStatus.cancelling, run.record

    # -- calls of the run

    def call_started(self, call: Call) -> None:
        """Add a call that is about to start in a thread, on a loop or in a process.

        Raises:
            RunCancelled: no new work may start. Checked under the lock: a call is either interrupted by a cancel, or
                it doesn't start.
        """
        run = self.run
        with run.lock:
            if run.scope.status is not _RUNNING:
                raise RunCancelled(run.scope.reason)
            run.scope.work.add(call)

    def call_ended(self, call: Call) -> None:
        """Remove a call that has ended; advance if the run waits for that. From the thread of the call."""
        run = self.run
        with run.lock:
            run.scope.work.discard(call)
            waiting = run.scope.status is RunStatus.cancelling
        if waiting:
            run.advance()
            if call.interrupt_mode == "never":  # it held up the grace, which may have expired meanwhile
                run.root.interruption.on_grace_expired()

    # -- the grace

    def start_grace(self, grace: float, force: bool) -> None:
        """Start the grace of the highest cancelled run. Without the lock."""
        self._grace = FORCED_GRACE if force else grace
        self.grace_deadline = time.monotonic() + self._grace
        self.forced = force
        self.run.limits.add_timer(timers.call_at(self.grace_deadline, self.on_grace_expired))

    def shorten(self, grace: float, force: bool) -> None:
        """Shorten the grace; a repeated cancel can't extend it. From any thread, without the lock."""
        seconds = FORCED_GRACE if force else grace
        deadline = time.monotonic() + seconds
        with self.run.lock:
            runs = [scope.owner for scope in self.run.scope.walk()]
            for run in runs:
                run.interruption.forced = run.interruption.forced or force
            if deadline < self.grace_deadline or force:
                self.grace_deadline = deadline
                self._grace = seconds if self._grace is None else min(self._grace, seconds)
        _do_all([action for run in runs for action in run.interruption._shorten_actions(grace, force)])
        timers.call_at(deadline, self.on_grace_expired)

    def _shorten_actions(self, grace: float, force: bool) -> Iterator[Action]:
        if force:
            yield partial(self.deliver_to_tasks, 0.0, force)
        for call in list(self.run.scope.work):
            yield partial(call.interrupt, 0.0, force=True) if force else partial(call.shorten_grace, grace)

    def on_grace_expired(self) -> None:
        """Abandon what still runs in the tree, or wait longer where that is allowed. In the timer thread, mostly.

        Timers are not cancelled when the grace is shortened or extended: the first that fires after the deadline acts,
        and those after it find no run that isn't abandoned or finalizing.
        """
        scope = self.run.scope
        abandoned: list[InterruptibleRun] = []
        with self.run.lock:
            deadline = max(
                self.grace_deadline, *(below.owner.interruption.extended_deadline() for below in scope.walk())
            )
            early = time.monotonic() < deadline
            if not early and self._loops_are_busy(deadline):
                early, deadline = True, time.monotonic() + PROBE_INTERVAL
            if not early:
                abandoned = [below.owner for below in scope.expire_grace()]
                for run in abandoned:
                    run.interruption.abandon()
        if early and deadline < math.inf and scope.status is RunStatus.cancelling:
            timers.call_at(deadline, self.on_grace_expired)
        logged: set[int] = set()  # children come first; the records above them name the same work
        for run in abandoned:
            for item in run.record.abandoned if run.record else ():
                if id(item) not in logged:
                    logged.add(id(item))
                    message = "run %s: %s %r could not be stopped and is abandoned"
                    log.warning(message, run.run_id, item.kind, item.name, extra=run.ids)
            if run.scope.cleanup is CleanupState.running:
                run.finalizer.stop_cleanup()
            run.advance()

    def _loops_are_busy(self, deadline: float) -> bool:
        """Return whether the work is only late, because its loop or the interrupting thread is busy. Lock held."""
        if time.monotonic() > deadline + (LATE_FORCED if self.forced else MAX_EXTENSION):
            return False
        scopes = list(self.run.scope.walk())
        if any(scope.reason is not None and not scope.owner.interruption.delivered for scope in scopes):
            return True  # not yet known which of it is shielded or already ending
        loops = {loop for scope in scopes if not scope.finalizing for loop in scope.owner.interruption.loops()}
        # A list, not a generator: each probe counts, and all must be started.
        return "late" in [self._loop_probes.setdefault(loop, LoopProbe(loop)).check() for loop in loops]

    def loops(self) -> set[asyncio.AbstractEventLoop]:
        """Return the loops on which work of the run is still alive. With the lock held."""
        run = self.run
        loops = {getattr(call, "loop", None) for call in run.scope.work}
        if run.scope.body is not BodyState.ended or run.scope.cleanup is CleanupState.running:
            loops.add(run.tasks.loop)
        return {loop for loop in loops if loop is not None}

    def extended_deadline(self) -> float:
        """Return until when the work must not be abandoned, in seconds of `time.monotonic`. With the lock held."""
        calls = self.run.scope.work
        kill_deadline = max((float(call.kill_deadline) for call in calls), default=0.0)
        if self.forced:
            return kill_deadline
        if any(call.interrupt_mode == "never" for call in calls):
            return math.inf
        shielded = [float(call.shield_deadline) for call in calls]
        return max(self.run.tasks.shield_deadline, kill_deadline, *shielded)

    def abandon(self) -> None:
        """Name what is still running, in this run's record and in those above it. With the lock held.

        Called once for a run, children first: `Scope.expire_grace` returns a run only once.
        """
        run, scope = self.run, self.run.scope
        assert run.record is not None
        abandoned = [record for call in scope.work for record in call.abandon()]
        if scope.cleanup is CleanupState.running:
            hooks = [hook for hook in run.record.cleanup if hook.status == "running"]
            abandoned += [Abandoned(name=hook.name, kind=hook.kind) for hook in hooks]
            for hook in hooks:
                hook.status, hook.error = "stopped", "the grace was over"
        explained = bool(abandoned or run.record.abandoned)  # the body waits for what is named: below it, or a call
        if scope.body is not BodyState.ended and not explained:
            activity = run.body.describe_activity() or run.body.kind
            abandoned.append(Abandoned(name=activity, kind="task", blocked_in=run.tasks.stack() or None))
        run.record.abandoned += abandoned
        above = scope.parent
        while above is not None:
            if above.owner.record is not None:
                above.owner.record.abandoned += abandoned
            above = above.parent

    def connections_closed(self, count: int) -> None:
        """Count connections to providers that were shut down. From any thread, and from several at once."""
        run = self.run
        with run.lock:
            if run.record is not None:
                run.record.upstream_closed += count
                run.record.connections_closed += count
                top = run.root.record
                if top is not None and top is not run.record:
                    top.upstream_closed += count
                    top.connections_closed += count

    def user_connections_closed(self, count: int) -> None:
        """Count connections that user code had opened. From any thread."""
        run = self.run
        with run.lock:
            for record in {id(record): record for record in (run.record, run.root.record) if record}.values():
                record.connections_closed += count


def apply_decision(cancelled: Sequence[Scope[InterruptibleRun]]) -> None:
    """Apply a decision to outputs and channels. With the lock held, in the step that decided: quick for many runs.

    Parameters:
        cancelled: what `Scope` has just cancelled, children first.
    """
    if not cancelled:
        return
    runs = [scope.owner for scope in cancelled]
    top = runs[-1]
    assert top.scope.reason is not None
    top.interruption.show_cancelling()  # the outputs of the others are changed when they are interrupted, or end
    if top.scope.reason.source is not Source.lease_lost:  # else another process resumes the run
        for run in runs:
            if run.tasks.loop is not None:  # else it never started: there is nothing to clean up
                run.scope.require_cleanup()
    run_ids = {run.run_id for run in runs}
    for emitter in {run.emitter.stream_owner for run in runs}:
        emitter.discard_content(run_ids)


def _do_all(actions: list[Action]) -> None:
    """Call independent actions, in this thread or, if there are many, in helper threads; then return at once."""
    if len(actions) > FEW:
        interrupting_helpers.hand_over(lambda: interrupting_helpers.share(actions, lambda: None))
        return
    for action in actions:
        action()
