"""One call in a worker process, awaited on this loop, and how a cancel ends it.

On cancel, from the canceller's thread: SIGTERM to the process group; after the grace SIGKILL to all processes that the
worker started. The run of the call waits for the end of the process, as it does for threads.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from desist.calls.base import CallOwner, CallPart, InterruptMode, current_call_owner
from desist.calls.process.connection import OnItem, WorkerConnection, answer_value, worker_died_error
from desist.calls.process.pool import pool
from desist.calls.process.protocol import pack_call
from desist.calls.process.worker_process import WorkerProcess
from desist.calls.thread_pool import TIMEOUT_GRACE
from desist.cancel.receipt import Abandoned
from desist.cancel.token import current_token
from desist.exceptions import ConfigurationError, ToolError
from desist.runtime.timer_thread import timers

__all__ = ["ProcessCall", "run_in_process"]

#: Seconds that a killed process may take to end before it counts as abandoned. It takes some 3 ms.
DYING = 0.5


@dataclass(slots=True, frozen=True)
class PackedCall:
    """A call as it is sent, the main module and the modules that it needs, and the callback for its items."""

    body: bytes
    main: str | None
    modules: set[str]
    on_item: OnItem | None


class ProcessCall:
    """One call in a worker process; the counterpart of `ThreadCall`.

    Created and awaited on one loop, interrupted from any thread. The lock protects `ended`, `_worker`, `_kill_at` and
    `kill_deadline`, so that a canceller either finds the worker or prevents the assignment of one. No signal is sent
    and no owner is called with the lock held.
    """

    __slots__ = (
        "_call",
        "_grace",
        "_kill_at",
        "_lock",
        "_worker",
        "abandoned",
        "begun",
        "ended",
        "interrupt_mode",
        "kill_deadline",
        "name",
        "owner",
        "started_at",
        "token",
    )  # fmt: skip
    kind = "process"

    def __init__(
        self, call: PackedCall, name: str, owner: CallOwner | None, interrupt: InterruptMode, grace: float | None
    ) -> None:
        self._call = call
        self._grace = grace
        self.token = current_token()
        self._kill_at: float | None = None
        self._lock = threading.Lock()
        self._worker: WorkerProcess | None = None
        self.name = name
        self.owner = owner
        self.interrupt_mode: InterruptMode = interrupt
        self.started_at = time.time()
        self.abandoned = False
        self.begun = False  #: the call was sent
        self.ended = False
        self.kill_deadline = 0.0  #: it isn't abandoned before; seconds of `time.monotonic`

    @property
    def shield_deadline(self) -> float:
        """Same value as `kill_deadline`: a process call may have a longer grace than its run."""
        return self.kill_deadline

    async def result(self) -> Any:
        """Make the call; return its result or raise its exception."""
        try:
            worker = await pool.take(self._call.modules)
        except BaseException:
            self._leave()
            raise
        if not self._assign(worker):
            pool.release(worker)
            raise asyncio.CancelledError
        items: list[Any] = []
        call, talk = self._call, WorkerConnection(worker, self.name)
        try:
            await talk.ready()
            self.token.check()
            self.begun = True
            run_id = getattr(self.owner, "run_id", None)
            kind, answer = await talk.call(call.body, call.main, run_id, call.on_item or items.append)
        except EOFError:
            worker.kill()  # a worker that has closed its socket is of no use
            self._leave(already_ended=True)
            await worker_died_error(worker)
            raise ToolError(f"{self.name!r} failed: its process {worker.exit_description()}") from None
        except BaseException:
            self._leave()
            raise
        self._finish(fit=kind.isupper())
        if kind.upper() == b"E":
            return items if call.on_item is None else None
        return await answer_value(kind.upper(), answer, self.name)

    def _assign(self, worker: WorkerProcess) -> bool:
        """Assign the worker; return False if the call was cancelled before."""
        if self.token.cancelled:  # decided, though the canceller may not have reached this call yet
            self._end()
        with self._lock:
            if self.ended:
                return False
            self._worker = worker
        worker.use()
        return True

    def _finish(self, *, fit: bool) -> None:
        """End the call after the answer of the worker. A worker that is being stopped isn't used again."""
        worker = self._worker
        assert worker is not None
        worker.unuse()
        with self._lock:
            stopping = self._kill_at is not None
        if stopping:
            worker.then(self._end)
        else:
            self._end()
            pool.release(worker, fit=fit)

    def _leave(self, *, already_ended: bool = False) -> None:
        """Leave a call that is no longer awaited: stop its worker, unless `interrupt` is "never".

        `already_ended`: the worker was killed.
        """
        worker = self._worker
        if worker is None:
            self._end()
            return
        worker.unuse()
        worker.then(self._end)
        if self.interrupt_mode == "never" and self._kill_at is None and not already_ended:
            worker.close_after_call()
        elif not already_ended and (self.owner is None or not self.token.cancelled):
            self.interrupt(TIMEOUT_GRACE)  # else the run stops it, with its own grace

    def _end(self) -> None:
        """Mark the call ended and notify the owner, once. From any thread: the first of several ends counts."""
        with self._lock:
            if self.ended:
                return
            self.ended = True
        if self.owner is not None:
            self.owner.call_ended(self)

    # -- called by the run

    def interrupt(self, grace: float, *, force: bool = False) -> None:
        """Send SIGTERM now and SIGKILL after the grace. From any thread; returns at once.

        A second call sends no second SIGTERM and can only shorten the grace.

        Parameters:
            grace: seconds between the signals; the call's own grace takes precedence.
            force: send SIGKILL now, also to a call with interrupt="never".
        """
        if force:
            self._terminate_after(0.0)
        elif self.interrupt_mode != "never":
            self._terminate_after(grace if self._grace is None else self._grace)

    def shorten_grace(self, grace: float) -> None:
        """Send SIGKILL within `grace` seconds, if the call is being stopped."""
        if self._kill_at is not None:
            self._terminate_after(grace)

    def _terminate_after(self, grace: float) -> None:
        kill_at = time.monotonic() + grace
        with self._lock:
            if self.ended or (self._kill_at is not None and self._kill_at <= kill_at):
                return
            first = self._kill_at is None
            self._kill_at, self.kill_deadline = kill_at, kill_at + DYING
            worker = self._worker
        if worker is None:
            self._end()  # it has no worker, and `_assign` gives it none
            return
        worker.then(self._end)
        if grace <= 0 or not self.begun:
            worker.kill()
        else:
            if first:
                worker.terminate()
            timers.call_at(kill_at, worker.kill)
        if first:
            pool.stopped()

    def stack(self) -> str:
        """Return "": the frames are in another process."""
        return ""

    def parts(self) -> list[CallPart]:
        """Return this call unless it has ended."""
        return [] if self.ended else [self]

    def abandon(self) -> list[Abandoned]:
        """Mark the call abandoned: the process doesn't end though it was killed. Kill the rest of its group."""
        self.abandoned = True
        if self._worker is not None:
            self._worker.kill_group()
        return [Abandoned(name=self.name, kind="process")]


async def run_in_process(
    call: Callable[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    name: str,
    grace: float | None = None,
    interrupt: InterruptMode = "auto",
    on_item: OnItem | None = None,
) -> Any:
    """Call a function in a worker process and wait for it on this loop.

    Function, arguments and result are pickled. A cancel sends SIGTERM to the process group, which raises
    `RunCancelled` in the function, and SIGKILL to all that it started when the grace is over.

    Parameters:
        call: the function to call; another process must be able to import it by its name.
        name: the name of the call in errors, receipts and logs.
        grace: seconds between SIGTERM and SIGKILL; None: those of the run.
        interrupt: "never" lets a cancel wait for the call; only a forced cancel kills it.
        on_item: called on this loop with each item if the function returns an iterator; the result is then None.
            Without `on_item` the result is the list of the items.

    Raises:
        RunCancelled: the run was cancelled before the call could start.
        ConfigurationError: the function can't be imported elsewhere, or this system can't do it.
        ToolError: something can't be pickled, or the process died.
    """
    _check_possible(name)
    body, main, modules = pack_call(call, args, kwargs or {}, name)
    owner = current_call_owner()
    work = ProcessCall(PackedCall(body, main, modules, on_item), name, owner, interrupt, grace)
    if owner is not None:
        owner.call_started(work)
    return await work.result()


def _check_possible(name: str) -> None:
    if not hasattr(os, "pidfd_open"):
        raise ConfigurationError(f"{name!r}: isolation='process' needs Linux; use isolation='thread' here")
    if os.environ.get("DESIST_IMPORTS_MAIN"):
        raise ConfigurationError(
            f"{name!r} would start a process while this one still imports the main module. Put what starts the "
            'program under `if __name__ == "__main__":`'
        )
