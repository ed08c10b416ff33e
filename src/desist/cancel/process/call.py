"""One call in a worker process, awaited on this loop, and how a cancel ends it.

On cancel, from the canceller's thread: SIGTERM to the process group; after the grace SIGKILL to all that the worker
started. The run that the call belongs to waits for the death of the process, as it does for threads.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from desist.cancel.process.pool import pool
from desist.cancel.process.wire import HEAD, frame, pack_call, raised, unpack
from desist.cancel.process.worker import MARK, WorkerProcess, current_settings
from desist.cancel.reaper import reaper
from desist.cancel.receipt import Abandoned
from desist.cancel.token import current_token
from desist.cancel.work import Interrupt, WorkOwner
from desist.cancel.worker import TIMEOUT_GRACE, current_owner, run_blocking
from desist.exceptions import ConfigurationError, ToolError

__all__ = ["ProcessWork", "run_in_process"]

#: Seconds that a killed process may take to be gone before it counts as abandoned. It takes some 3 ms.
DYING = 0.5
#: Bytes of a result from which it isn't unpickled on the loop.
LARGE = 262_144

OnItem = Callable[[Any], object]


class ProcessWork:
    """One call, as the run that it is made for sees it."""

    __slots__ = (
        "_grace", "_kill_at", "_lock", "_worker", "dying_until", "ended", "interrupt_by", "name", "owner", "sent", "token",
    )  # fmt: skip

    def __init__(self, name: str, owner: WorkOwner | None, interrupt: Interrupt, grace: float | None) -> None:
        self._grace = grace
        self.token = current_token()
        self._kill_at: float | None = None
        self._lock = threading.Lock()
        self._worker: WorkerProcess | None = None
        self.name = name
        self.owner = owner
        self.interrupt_by: Interrupt = interrupt
        self.sent = False  #: the worker may have begun
        self.ended = False
        self.dying_until = 0.0  #: it isn't given up before; seconds of `time.monotonic`

    @property
    def shielded_until(self) -> float:
        """The same: its grace may be longer than the run's."""
        return self.dying_until

    def begin(self, worker: WorkerProcess) -> bool:
        """Note who does it; return False if it was stopped before."""
        with self._lock:
            if self.ended:
                return False
            self._worker = worker
        worker.use()
        return True

    def finish(self, *, fit: bool) -> None:
        """The worker has answered, and whoever waited has the answer."""
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

    def leave(self, *, dead: bool = False) -> None:
        """Whoever waited is gone. What runs is stopped, unless nobody may; `dead`: it was told to end already."""
        worker = self._worker
        if worker is None:
            self._end()
            return
        worker.unuse()
        worker.then(self._end)
        if self.interrupt_by == "never" and self._kill_at is None and not dead:
            worker.let_go()
        elif not dead:
            self.stop(TIMEOUT_GRACE)

    def _end(self) -> None:
        with self._lock:
            if self.ended:
                return
            self.ended = True
        if self.owner is not None:
            self.owner.work_ended(self)

    # -- what the run asks for

    def stop(self, grace: float, *, force: bool = False) -> None:
        """SIGTERM now, SIGKILL after the grace. From any thread; returns at once.

        Parameters:
            grace: seconds in between; the call's own grace goes before it.
            force: SIGKILL now, also to what nobody may interrupt.
        """
        if force:
            self._stop_in(0.0)
        elif self.interrupt_by != "never":
            self._stop_in(grace if self._grace is None else self._grace)

    def hurry(self, grace: float) -> None:
        """SIGKILL within `grace` seconds, if it is being stopped."""
        if self._kill_at is not None:
            self._stop_in(grace)

    def _stop_in(self, grace: float) -> None:
        due = time.monotonic() + grace
        with self._lock:
            if self.ended or (self._kill_at is not None and self._kill_at <= due):
                return
            first = self._kill_at is None
            self._kill_at, self.dying_until = due, due + DYING
            worker = self._worker
        if worker is None:
            self._end()  # it has none yet, and gets none
            return
        worker.then(self._end)
        if grace <= 0 or not self.sent:
            worker.kill()
        else:
            if first:
                worker.terminate()
            reaper.at(due, worker.kill)
        if first:
            pool.stopped()

    def abandon(self) -> Abandoned:
        """Give it up: the system doesn't let it die."""
        if self._worker is not None:
            self._worker.kill_group()
        return Abandoned(name=self.name, kind="process")


async def run_in_process(
    call: Callable[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    name: str,
    grace: float | None = None,
    interrupt: Interrupt = "auto",
    on_item: OnItem | None = None,
) -> Any:
    """Call a function in a worker process and wait for it on this loop.

    Function, arguments and result are pickled. A cancel sends SIGTERM to the process group, which raises
    `RunCancelled` in the function, and SIGKILL to all that it started when the grace is over.

    Parameters:
        call: what to call; another process must be able to import it by its name.
        name: how it is called in errors, receipts and logs.
        grace: seconds between SIGTERM and SIGKILL; None: those of the run.
        interrupt: "never" lets a cancel wait for it; only a forced one kills it.
        on_item: called on this loop with each item, if the function returns an iterator; the result is None then.
            Without it the result is the list of them.

    Raises:
        RunCancelled: the run was cancelled before the call could start.
        ConfigurationError: the function can't be imported elsewhere, or this system can't do it.
        ToolError: something can't be pickled, or the process died.
    """
    _check_possible(name)
    body, main, modules = pack_call(call, args, kwargs or {}, name)
    owner = current_owner()
    work = ProcessWork(name, owner, interrupt, grace)
    if owner is not None:
        owner.work_started(work)
    items: list[Any] = []
    talk = _Talk(work, on_item or items.append)
    try:
        worker = await pool.take(modules)
    except BaseException:
        work.leave()
        raise
    if not work.begin(worker):
        pool.release(worker)
        raise asyncio.CancelledError
    try:
        kind, answer = await talk.ask(worker, main, body)
    except EOFError:
        worker.kill()  # or it lives on without the socket
        work.leave(dead=True)
        await _gone(worker)
        raise ToolError(f"{name!r} failed: its process {worker.end_words()}") from None
    except BaseException:
        work.leave()
        raise
    work.finish(fit=kind.isupper())
    if kind == b"E":
        return items if on_item is None else None
    return await _value(kind.upper(), answer, name)


class _Talk:
    """Asks a worker and listens to it."""

    def __init__(self, work: ProcessWork, on_item: OnItem) -> None:
        self._work, self._on_item = work, on_item
        self._loop = asyncio.get_running_loop()

    async def ask(self, worker: WorkerProcess, main: str | None, call: bytes) -> tuple[bytes, bytearray]:
        """Send a call and return the last frame of the answer. Raises `EOFError` if there is none."""
        if not worker.ready:
            await self._frame(worker)
            worker.ready = True
        settings = current_settings()
        extra = {MARK: worker.mark}
        if run_id := getattr(self._work.owner, "run_id", None):
            extra["DESIST_PARENT_RUN_ID"] = run_id
        changed = None if settings == worker.settings else settings
        worker.settings = settings
        self._work.sent = True
        try:
            await self._loop.sock_sendall(
                worker.socket, frame(b"C", pickle.dumps((changed, extra, main, call), protocol=5))
            )
        except (BrokenPipeError, ConnectionResetError):
            raise EOFError from None
        while True:
            kind, body = await self._frame(worker)
            if kind != b"I":
                return kind, body
            self._on_item(await _unpacked(body, self._work.name))

    async def _frame(self, worker: WorkerProcess) -> tuple[bytes, bytearray]:
        kind, length = HEAD.unpack(await self._exactly(worker, HEAD.size))
        return kind, await self._exactly(worker, length)

    async def _exactly(self, worker: WorkerProcess, length: int) -> bytearray:
        data = bytearray(length)
        view, got = memoryview(data), 0
        while got < length:
            try:
                count = await self._loop.sock_recv_into(worker.socket, view[got:])
            except OSError:
                count = 0
            if not count:
                raise EOFError
            got += count
        return data


async def _value(kind: bytes, answer: bytearray, name: str) -> Any:
    """Return what an answer says, or raise it."""
    if kind == b"V":
        return await _unpacked(answer, name)
    if kind == b"X":
        raise raised(answer, name)
    if kind == b"U":
        raise ToolError(f"{name!r} failed in its process: {answer.decode()}")
    raise ToolError(f"{name!r} failed: its process was told to end by a SIGTERM from outside")


async def _unpacked(body: bytearray, name: str) -> Any:
    if len(body) < LARGE:
        return unpack(body, name)
    return await run_blocking(lambda: unpack(body, name), name=f"the result of {name}", interrupt="cooperative")


async def _gone(worker: WorkerProcess) -> None:
    """Wait until a process that was told to end is gone, and how it ended is known."""
    loop = asyncio.get_running_loop()
    gone = loop.create_future()

    def tell() -> None:
        if not gone.done():
            gone.set_result(None)

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(tell)
        except RuntimeError:  # the loop is closed
            pass

    worker.then(wake)
    await gone


def _check_possible(name: str) -> None:
    if not hasattr(os, "pidfd_open"):
        raise ConfigurationError(f"{name!r}: isolation='process' needs Linux; use isolation='thread' here")
    if os.environ.get("DESIST_IMPORTS_MAIN"):
        raise ConfigurationError(
            f"{name!r} would start a process while this one still imports the main module. Put what starts the "
            'program under `if __name__ == "__main__":`'
        )
