"""Scenes of user code: tools and steps that wait, loop, or don't listen."""

from __future__ import annotations

import asyncio
import inspect
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.scenario import Scene
from desist.agent import Agent
from desist.cancel import sleep
from desist.testing import Call, ScriptedModel
from desist.workflow import Step, StepInput

__all__ = ["code_scenes"]

LONG = 0.4  #: seconds after which work ends by itself: what isn't stopped shows as that, and MISSED


class UserCode(Scene):
    """The run is inside a function of the user's, which notes when it is left."""

    def __init__(
        self,
        name: str,
        work: Callable[[], Any],
        *,
        as_tool: bool,
        terminal_ms: float = 5.0,
        gone_ms: float | None = 5.0,
        repeats: int = 100,
    ) -> None:
        super().__init__()
        self.name, self.work, self.as_tool = name, work, as_tool
        self.terminal_ms, self.gone_ms, self.repeats = terminal_ms, gone_ms, repeats
        self._inside, self._left = threading.Semaphore(0), threading.Semaphore(0)
        self._left_at = 0.0

    def step(self) -> Step:
        """The function as a step, or as the tool of a scripted agent."""
        function = self._async() if inspect.iscoroutinefunction(self.work) else self._sync()
        if not self.as_tool:
            return Step("one", executor=function)
        model = ScriptedModel([Call("work")], repeat=True)
        return Step("one", agent=Agent(model, name="bench", tools=[function]))

    def _sync(self) -> Callable[..., Any]:
        def work() -> str:
            self._inside.release()
            try:
                self.work()
            finally:
                self._leave()
            return "done"

        return work if self.as_tool else lambda _: work()

    def _async(self) -> Callable[..., Any]:
        async def work() -> str:
            self._inside.release()
            try:
                await self.work()
            finally:
                self._leave()
            return "done"

        async def step(_: StepInput) -> str:
            return await work()

        return work if self.as_tool else step

    def _leave(self) -> None:
        self._left_at = time.monotonic()
        self._left.release()

    def arrive(self) -> None:
        """Wait until it is inside, and blocked."""
        self._inside.acquire()
        time.sleep(0.003)

    def gone(self) -> float | None:
        """Wait until it has left."""
        if self.gone_ms is None:
            return None
        if not self._left.acquire(timeout=10):
            raise RuntimeError(f"{self.name}: the work was still running after 10 s")
        return self._left_at


async def _wait() -> None:
    await asyncio.Event().wait()


def _receive() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        client.settimeout(LONG)
        client.recv(1)


def _child() -> None:
    subprocess.run(["sleep", str(LONG)], check=False)


def _loop() -> None:
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        pass


def code_scenes() -> Iterator[Scene]:
    """Yield them. A6-A9 of the promise: layered interrupts of code that doesn't cooperate."""
    yield UserCode("async tool", _wait, as_tool=True)
    yield UserCode("async step", _wait, as_tool=False)
    yield UserCode("sync tool in desist's sleep()", lambda: sleep(LONG), as_tool=True)
    yield UserCode("sync step in desist's sleep()", lambda: sleep(LONG), as_tool=False)
    yield UserCode("sync tool in a socket read", _receive, as_tool=True, gone_ms=10, terminal_ms=60, repeats=50)
    yield UserCode("sync tool waiting for a child", _child, as_tool=True, gone_ms=10, terminal_ms=60, repeats=50)
    yield UserCode("sync tool in a Python loop", _loop, as_tool=True, gone_ms=60, terminal_ms=60, repeats=20)
    yield UserCode(
        "deaf sync tool (time.sleep): its grace, 50 ms",
        lambda: time.sleep(LONG),
        as_tool=True,
        gone_ms=None,
        terminal_ms=60,
        repeats=20,
    )
