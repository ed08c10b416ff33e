"""A run whose one call starts work of its own, in any situation; and what can be seen of that work from outside.

The work of a call is a function of `Props`: it beats `Props.heart` in threads and tasks, asks `Props.server`, and gives
its child processes `Props.environ`, so that the process table tells which they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import psutil
from hanging_server import PATIENCE, HangingServer

from desist import Agent, Parallel, Step, Workflow
from desist.cancel import CancelReceipt, RunStatus
from desist.testing import Call, Gate, ScriptedModel
from desist.tools import Function

Place = Literal["step", "tool"]
#: How the call's run is started: by `run`, `arun`, in a Parallel of either, in the background, by a worker.
Way = Literal["run", "arun", "parallel run", "parallel arun", "background", "worker"]

#: Seconds of grace: more than an interruption takes on a busy machine, and less than the tests' patience.
GRACE = 10.0
_HELPERS = ("resource_tracker", "forkserver")


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Look again and again: for what has no event to wait for."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


class Heart:
    """Beats in threads and tasks for ever. `inside` are those that are still at it."""

    def __init__(self) -> None:
        self.beats = 0
        self.inside: set[object] = set()
        self.cleaned: list[str] = []  #: what `finally` blocks have noted
        self._enough = False
        self._entered = threading.Semaphore(0)

    def beat(self, *_: Any) -> None:
        """Beat in this thread."""
        me = object()
        self.inside.add(me)
        try:
            self._entered.release()
            while not self._enough:
                self.beats += 1
                time.sleep(0.001)
        finally:
            self.inside.discard(me)

    async def beat_in_task(self) -> None:
        """Beat in this task; the cleanup awaits, too."""
        me = object()
        self.inside.add(me)
        try:
            self._entered.release()
            while True:
                self.beats += 1
                await asyncio.sleep(0.001)
        finally:
            await asyncio.sleep(0)
            self.cleaned.append("task")
            self.inside.discard(me)

    def note_entered(self) -> None:
        """Note that work has begun that doesn't beat."""
        self._entered.release()

    def stop(self) -> None:
        """Have the threads end that nobody stops."""
        self._enough = True

    def wait_entered(self, count: int) -> None:
        """Wait until so many more have begun to beat."""
        for _ in range(count):
            assert self._entered.acquire(timeout=PATIENCE), "the work hasn't begun"

    def check_still(self) -> None:
        """Nothing beats: not now, and not while a heart of this test's own beats."""
        assert self.inside == set(), f"{len(self.inside)} threads or tasks are still at work"
        beats = self.beats
        for _ in range(20):
            time.sleep(0.001)
        assert self.beats == beats


class KeptServer(HangingServer):
    """A hanging server that answers `/first`, so that clients keep the connection."""

    def _hang(self, connection: Any) -> None:
        asked = connection.recv(65536)
        while b" /first " in asked:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            asked = connection.recv(65536)
        if asked:
            self.arrived.release()
        while connection.recv(65536):
            pass


class Props:
    """What the work uses, and what is seen of it from outside."""

    def __init__(self) -> None:
        self.heart, self.server = Heart(), KeptServer()
        self._mark = uuid.uuid4().hex
        self.environ = os.environ | {"PROOF": self._mark}
        self._before = {child.pid for child in psutil.Process().children(recursive=True)}

    def processes(self) -> list[psutil.Process]:
        """Return the live processes that the work has started: by descent, and by their environment."""
        found = {child.pid: child for child in psutil.Process().children(recursive=True)}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("PROOF") == self._mark:
                    found[process.pid] = process
        return [process for pid, process in found.items() if pid not in self._before and _is_work(process)]

    def close(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.server.close()


def _is_work(process: psutil.Process) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return not any(helper in " ".join(process.cmdline()) for helper in _HELPERS)
    except psutil.NoSuchProcess:
        return False


@dataclass(frozen=True)
class Row:
    """One kind of work, and how much of it is to be seen before the cancel."""

    work: Callable[[Props], Any]
    hearts: int = 0
    requests: int = 0
    processes: int = 0

    def __str__(self) -> str:
        return self.work.__name__

    def wait_ready(self, props: Props) -> None:
        """Wait until all of the work is at work."""
        props.heart.wait_entered(self.hearts)
        for _ in range(self.requests):
            props.server.wait_arrived()
        wait_until(lambda: len(props.processes()) >= self.processes, "the processes aren't there")

    def check_gone(self, props: Props) -> None:
        """Nothing of the work is left, now: the receipt says so."""
        assert props.processes() == []
        props.heart.check_still()
        for _ in range(self.requests):
            props.server.wait_ended()


Work = Callable[[], Any]


def step_of(job: Work, place: Place, runs: int = 1) -> Step:
    """Return a step that makes one call, in an agent's tool or of the step's function; for so many runs."""
    work: Any
    if inspect.iscoroutinefunction(job):

        async def work() -> str:
            await job()
            return "done"
    else:

        def work() -> str:
            job()
            return "done"

    if place == "tool":
        tool = Function(name="work", description="Work.", entrypoint=work)
        model = ScriptedModel([*[Call("work")] * runs, "never"])
        return Step("work", agent=Agent(model, name="A", tools=[tool]), max_retries=0)
    return Step("work", executor=_with_input(work), max_retries=0)


def _with_input(function: Callable[[], Any]) -> Callable[[Any], Any]:
    """Return the same as a function of a step's input."""
    if inspect.iscoroutinefunction(function):

        async def work(_: Any) -> Any:
            return await function()

        return work

    def work(_: Any) -> Any:
        return function()

    return work


async def _wait_for_ever(_: Any) -> None:
    await Gate().wait()


class Run:
    """One run of the work, in a thread of its own; stopped from the thread of the test."""

    def __init__(self, work: Work, *, place: Place = "step", way: Way = "run", grace: float = GRACE) -> None:
        self.run_id = uuid.uuid4().hex
        self.never: list[str] = []
        step: Any = step_of(work, place)
        if way.startswith("parallel"):
            step = Parallel("both", step, Step("beside", executor=_wait_for_ever))
        after = Step("after", executor=lambda _: self.never.append("ran"))
        self.workflow = Workflow("Owner", grace=grace, steps=[step, after])
        self._way, self._over = way, threading.Event()
        self.output: Any = None
        self.error: BaseException | None = None

    def start(self) -> Run:
        threading.Thread(target=self._go, name="run", daemon=True).start()
        return self

    def _go(self) -> None:
        try:
            if self._way.endswith("run") and "arun" not in self._way:
                self.output = self.workflow.run("go", run_id=self.run_id)
            else:
                asyncio.run(self._ago())
        except BaseException as error:
            self.error = error
        self._over.set()

    async def _ago(self) -> None:
        if self._way != "background":
            self.output = await self.workflow.arun("go", run_id=self.run_id)
            return
        await self.workflow.arun("go", run_id=self.run_id, background=True)
        async for _ in self.workflow.afollow(self.run_id):
            pass
        self.output = await self.workflow.aget_run(self.run_id)

    def stop(self, **how: Any) -> CancelReceipt:
        """Cancel it; check what holds for every cancel."""
        receipt = self.workflow.cancel(self.run_id, **how)
        assert receipt.wait(PATIENCE), f"not settled: {receipt}"
        assert receipt and receipt.status is RunStatus.cancelled
        return receipt

    def wait_over(self) -> None:
        """Wait until its caller has it back: what the receipt says is checked before that."""
        assert self._over.wait(PATIENCE)
        assert self.error is None, self.error
        assert self.output.status is RunStatus.cancelled and self.never == []
