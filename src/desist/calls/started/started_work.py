"""What a call has started: threads, jobs, tasks and child processes, found through the context of its code.

The hooks of `start_hooks` add each thread, job, task and process that code of the call starts. What these start in
turn is added as well, because they inherit the context. A call that ends without a cancel lets go of all of it: what
it has left running on purpose is touched by no later cancel. A cancelled call has ended when all of it has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from desist.calls.base import CallOwner, CallPart, InterruptMode
from desist.calls.child_processes import command_line, kill
from desist.calls.process_mark import ProcessMark
from desist.calls.started.started_pool import StartedPool, StartedPoolJob
from desist.calls.started.started_process import StartedProcess
from desist.calls.started.started_tasks import StartedTasks
from desist.calls.started.started_thread import StartedThread
from desist.calls.thread_execution import ThreadExecution
from desist.cancel.receipt import Abandoned
from desist.cancel.token import CancelToken, token_variable
from desist.exceptions import RunCancelled
from desist.runtime.helper_threads import interrupting_helpers
from desist.runtime.run_tasks import RunTasks
from desist.runtime.timer_thread import timers
from desist.runtime.work_tracking import is_work_tracked

__all__ = ["StartedWork", "current_started_work", "set_started_work", "started_work_of"]

log = logging.getLogger("desist.cancel")

#: How many child processes may be remembered before those that have ended are dropped.
MANY_PROCESSES = 16

#: Seconds that killed processes may take to die.
DEATH_TIMEOUT = 0.1

Member = StartedThread | StartedProcess | StartedTasks | StartedPool | StartedPoolJob
M = TypeVar("M", bound=Member)
#: The order in which they are interrupted, before and after the call's own thread.
_BEFORE, _AFTER = (StartedTasks, StartedThread, StartedPool), (StartedPoolJob, StartedProcess)

_current: contextvars.ContextVar[StartedWork | None] = contextvars.ContextVar("desist_started_work", default=None)


class StartedWork:
    """What one call has started.

    Any thread may add to it and interrupt it. The lock protects the members and the fields that say how far the call
    is; no member is called with the lock held.
    """

    __slots__ = (
        "_closed", "_closing", "_in_cleanup", "_lock", "_members", "_on_ended", "_own_tasks", "_parent", "_repeat_at",
        "_tasks", "_token", "_variables", "abandoned", "interrupt_mode", "mark", "name", "owner", "released",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        owner: CallOwner | None,
        interrupt: InterruptMode,
        *,
        parent: CancelToken,
        token: CancelToken | None = None,
        tasks: RunTasks | None = None,
    ) -> None:
        """Create it when the call begins.

        Parameters:
            tasks: those of the call's own code, if it is async.
        """
        self.name = name
        self.owner = owner
        self._token, self._parent = token, parent
        self.interrupt_mode: InterruptMode = interrupt
        self._lock = threading.Lock()
        self._own_tasks = tasks
        self._members: set[Member] = set()
        self._in_cleanup: set[Member] = set()  #: added by a cleanup, before `interrupt` was called
        self._tasks: dict[asyncio.AbstractEventLoop, StartedTasks] = {}
        self._variables: list[tuple[contextvars.ContextVar[Any], Any]] | None = None
        self.mark: ProcessMark | None = None  #: of its processes
        self._closed: set[int] = set()  #: the inode numbers of connections that were shut down
        self._closing = False  #: the call's own code has ended, after a cancel
        self._on_ended: Callable[[], None] | None = None  #: called once, when all has ended after that
        self._repeat_at: float | None = None  #: when three quarters of the grace are over, if it is interrupted
        self.released = False  #: nothing is added any more, and nothing is interrupted
        self.abandoned = False  #: what is left could not be stopped

    # -- adding; in the thread that starts the work

    def variables(self) -> list[tuple[contextvars.ContextVar[Any], Any]]:
        """Return the context variables of desist in the call, with their values, for threads that it starts."""
        if self._variables is None:
            context = contextvars.copy_context()
            names = [variable for variable in context if variable.name.startswith("desist_")]
            found = {variable: context[variable] for variable in names if context[variable] is not None}
            self._variables = [*(found | {token_variable: self.token}).items()]
        return self._variables

    @property
    def token(self) -> CancelToken:
        """What tells the call to stop. If only the parent of the token was given, it is made when it is needed."""
        if self._token is None:
            with self._lock:
                self._token = self._token or self._parent.child()
        return self._token

    @property
    def used(self) -> bool:
        """Whether the call has started anything."""
        return bool(self._members) or self._token is not None

    def add_thread(self, name: str) -> StartedThread:
        """Add a thread or a job that is about to start. Raises `RunCancelled` if the call was abandoned."""
        self._refuse_after_abandonment()
        return self._add(StartedThread(name, self))

    def process_mark(self) -> ProcessMark:
        """Return the mark for a process that is about to start.

        Raises:
            RunCancelled: the call was abandoned.
        """
        self._refuse_after_abandonment()
        with self._lock:
            if self.mark is None:
                self.mark = ProcessMark()
                if self._repeat_at is not None:  # the first one, of a cleanup
                    timers.call_at(self._repeat_at, self._end_orphans_of_the_rest)
            return self.mark

    def add_process(
        self, pid: int, name: str, reap: Callable[[], object] | None = None, *, of_pool: bool = False
    ) -> None:
        """Add a child process that was just started. A process that is gone already, or can't be watched, isn't."""
        with contextlib.suppress(OSError, AttributeError):
            self._add(StartedProcess(pid, name, self, reap, of_pool=of_pool))
        if len(self._members) > MANY_PROCESSES:
            for member in self.live_members():
                if isinstance(member, StartedProcess) and not member.is_alive():
                    member.close()
                    self.member_ended(member)

    def add_pool(self, pool: Any) -> None:
        """Add a pool of `multiprocessing`; again without effect."""
        with self._lock:
            known = any(isinstance(member, StartedPool) and member.holds(pool) for member in self._members)
        if not known:
            self._add(StartedPool(pool, self))

    def add_pool_job(self, name: str) -> StartedPoolJob:
        """Add a job for a process pool, which is about to be submitted."""
        self._refuse_after_abandonment()
        return self._add(StartedPoolJob(name, self))

    def add_task(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[object]) -> None:
        """Add a task that was just created."""
        group = self._tasks.get(loop) or self._tasks.setdefault(loop, StartedTasks(loop, self))
        group.add(task)
        self._add(group)

    def _add(self, member: M) -> M:
        """Add a member. One that comes after the cancel is part of a cleanup: it is interrupted as late as that."""
        with self._lock:
            released, repeat_at = self.released, self._repeat_at
            new = not released and member not in self._members
            if new:
                self._members.add(member)
                if repeat_at is None and self._own_tasks is not None and self._own_tasks.delivered:
                    self._in_cleanup.add(member)
        if released and isinstance(member, StartedProcess | StartedPool):
            member.close()
        if new and repeat_at is not None:
            if self.interrupt_mode == "auto":
                timers.call_at(repeat_at, lambda: member.interrupt(0.0, False))
            if isinstance(member, StartedProcess):
                member.watch()
        return member

    def _refuse_after_abandonment(self) -> None:
        if self.abandoned:
            raise RunCancelled(self.token.reason)

    # -- interrupting

    def interrupt(self, grace: float, *, force: bool = False, main: ThreadExecution | None = None) -> None:
        """Interrupt everything, and repeat that until it has ended. From any thread; returns at once.

        The order is that of dependence: a thread that replaces the processes of a pool goes before these.

        Parameters:
            grace: seconds in which cleanup isn't interrupted a second time.
            force: ignore shields.
            main: the thread of the call itself.
        """
        with self._lock:
            self._repeat_at = repeat_at = time.monotonic() + 0.75 * grace
            in_cleanup, self._in_cleanup = self._in_cleanup, set()
            members, mark = list(self._members - in_cleanup), self.mark
        for member in in_cleanup:
            timers.call_at(repeat_at, partial(member.interrupt, 0.0, False))
        if mark is not None:
            timers.call_at(repeat_at, self._end_orphans_of_the_rest)
        for kinds in (_BEFORE, None, _AFTER):
            if kinds is None:
                if main is not None:
                    main.interrupt(grace, force=force)
            elif self.interrupt_mode == "auto":
                for kind in kinds:
                    for member in members:
                        if isinstance(member, kind):
                            member.interrupt(grace, force)

    def thread_runs_tasks(self, thread: int) -> bool:
        """Return whether tasks of the call are being cancelled on an event loop of this thread."""
        return any(tasks.thread_id == thread and tasks.occupy_thread() for tasks in list(self._tasks.values()))

    def native_ids(self) -> set[int]:
        """Return the system's numbers of the threads that the call has started."""
        return {member.execution.native_id for member in self.live_members() if isinstance(member, StartedThread)}

    def pool_workers(self) -> set[int]:
        """Return the numbers of processes that a pool of the call ends, which waits for them."""
        return {member.pid for member in self.live_members() if isinstance(member, StartedProcess) and member.of_pool}

    def connections_closed(self, inodes: list[int]) -> None:
        """Count connections that were shut down, each once. From any thread, without a lock of the run."""
        if not inodes:
            return
        with self._lock:
            fresh = set(inodes) - self._closed
            self._closed |= fresh
        if fresh and self.owner is not None:
            self.owner.user_connections_closed(len(fresh))

    # -- the end

    def close(self, on_ended: Callable[[], None]) -> None:
        """Note that the call's own code has ended; call `on_ended()` once, when the whole call has ended. Once.

        Without a cancel that is now: whatever is left is not the call's any more.
        """
        with self._lock:
            self.released = not (self._token or self._parent).cancelled
            left = list(self._members)
            if self.released:
                self._members.clear()
            else:
                self._closing, self._on_ended = True, on_ended
        if self.released:
            for member in left:
                if isinstance(member, StartedProcess | StartedPool):
                    member.close()
            on_ended()
        elif all(member.ended for member in left):
            self._end()
        else:
            for member in left:
                if isinstance(member, StartedProcess):
                    member.watch()

    def member_ended(self, member: Member) -> None:
        """Remove a member that has ended. From any thread; again without effect."""
        with self._lock:
            if not member.ended or member not in self._members:
                return
            self._members.discard(member)
            last = self._closing and all(member.ended for member in self._members)
        if self.abandoned:
            ids = self.token.ids
            message = "run %s: abandoned %s %r of %r ended after %.2f s"
            seconds = time.time() - member.started_at
            log.info(message, ids["run_id"] if ids else "none", member.kind, member.name, self.name, seconds, extra=ids)
        if last:
            self._end()

    def _end(self) -> None:
        """End the call: first look for processes whose parents have ended, in a helper thread. In any thread."""
        if self.mark is None:
            self._finish()
        else:
            interrupting_helpers.hand_over(self._kill_orphans)

    def _end_orphans_of_the_rest(self) -> None:
        """End such processes of a call that hasn't ended by now: `_end` may come late or never. In the timer thread.

        The other processes of the call are killed at this time as well. If nothing is to be interrupted, they are only
        added, so that receipts name them.
        """
        if not self.released:
            interrupting_helpers.hand_over(self._kill_marked if self.interrupt_mode == "auto" else self._add_marked)

    def _kill_orphans(self) -> None:
        self._kill_marked()
        self._finish()

    def _kill_marked(self) -> None:
        """Kill processes with the mark of the call. Repeated, as one may have forked while `/proc` was read."""
        assert self.mark is not None
        for _ in range(5):
            if not kill(self.mark.processes(), wait=DEATH_TIMEOUT):
                return
        self._add_marked()

    def _add_marked(self) -> None:
        """Add the processes with the mark of the call that aren't known: those that can't or mustn't be killed."""
        assert self.mark is not None
        known = {member.pid for member in self.live_members() if isinstance(member, StartedProcess)}
        for pid in self.mark.processes():
            if pid not in known:
                self.add_process(pid, command_line(pid).partition(" ")[0] or "process")

    def _finish(self) -> None:
        with self._lock:
            if any(not member.ended for member in self._members):  # one was added meanwhile: its end comes here again
                return
            on_ended, self._on_ended = self._on_ended, None
            self.released = True
            self._tasks = {}  # a task that will never end, because its loop is dead, is kept by nothing of desist
        if on_ended is not None:
            on_ended()

    # -- for receipts

    def live_members(self) -> list[Member]:
        """Return what hasn't ended. From any thread."""
        with self._lock:
            return [member for member in self._members if not member.ended]

    def shield_deadline(self) -> float:
        """Before this time nothing must be abandoned; seconds of `time.monotonic`."""
        return max((member.shield_deadline for member in self.live_members()), default=0.0)

    def parts(self) -> list[CallPart]:
        """Return what hasn't ended, one by one."""
        return list(self.live_members())

    def abandon(self) -> list[Abandoned]:
        """Give up what hasn't ended, and return a record of each. The lock of the run may be held."""
        self.abandoned = True
        return [record for member in self.live_members() for record in member.abandon(self.name)]


def current_started_work() -> StartedWork | None:
    """Return what the call of this code has started; None outside of calls, and for a call that has ended."""
    started = _current.get()
    return None if started is None or started.released else started


def started_work_of(context: contextvars.Context) -> StartedWork | None:
    """Return the same for code that runs in `context`."""
    started = context.get(_current)
    return None if started is None or started.released else started


def set_started_work(started: StartedWork | None) -> None:
    """Set what collects the work that this context starts; nothing if the tracking is off. None stands for nothing."""
    _current.set(started if is_work_tracked() else None)
