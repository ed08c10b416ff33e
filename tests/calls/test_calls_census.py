"""C10: after two thousand mixed cancels the process holds what it held before."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hanging_server import PATIENCE, HangingServer

from desist import Agent, Step, Workflow
from desist.calls.abandoned_threads import abandoned_threads
from desist.cancel import Source, check_cancelled, sleep
from desist.cancel.registry import registry
from desist.run.execution.run import runs_with_abandoned_work
from desist.testing import Call, Census, Gate, ScriptedModel, census

CANCELS = 2000


class Mix:
    """Kinds of work to be stopped; each says when it is inside."""

    def __init__(self, server: HangingServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.inside = threading.Semaphore(0)
        self.kinds: list[Callable[[], Workflow]] = [
            lambda: self.step(self.read),
            lambda: self.step(self.child),
            lambda: self.step(self.loop),
            lambda: self.step(self.token),
            lambda: self.step(self.deaf, grace=0.0),
            lambda: self.step(self.file),
            lambda: self.step(self.wait),
            lambda: self.step(self.swallow),
            self.tool,
            self.story,
        ]

    def step(self, work: Callable[[Any], Any], grace: float = PATIENCE) -> Workflow:
        return Workflow("Mix", steps=[Step("work", executor=work, max_retries=0)], grace=grace)

    def tool(self) -> Workflow:
        def work() -> str:
            """Work."""
            self.token(None)
            return "never"

        agent = Agent(ScriptedModel([Call("work")]), name="A", tools=[work])
        return Workflow("Mix", steps=[Step("work", agent=agent, max_retries=0)], grace=PATIENCE)

    def story(self) -> Workflow:
        def tell(request: Any) -> Any:
            self.inside.release()
            return ["some ", Gate()]

        return Workflow("Mix", steps=[Agent(ScriptedModel([tell]), name="A")], grace=PATIENCE)

    def read(self, _: Any) -> None:
        with socket.create_connection(self.server.address) as connection:
            connection.sendall(b"hello")
            self.inside.release()
            connection.recv(1)

    def child(self, _: Any) -> None:
        with subprocess.Popen(["sleep", "300"]) as process:
            self.inside.release()
            process.wait()

    def loop(self, _: Any) -> None:
        self.inside.release()
        while True:
            check_cancelled()

    def token(self, _: Any) -> None:
        self.inside.release()
        sleep(300)

    def deaf(self, _: Any) -> None:
        self.inside.release()
        time.sleep(0.02)

    def file(self, _: Any) -> None:
        with tempfile.NamedTemporaryFile(dir=self.folder) as file:
            file.write(b"half")
            self.inside.release()
            sleep(300)

    async def wait(self, _: Any) -> None:
        self.inside.release()
        await asyncio.sleep(300)

    async def swallow(self, _: Any) -> None:
        self.inside.release()
        try:
            await asyncio.sleep(300)
        except asyncio.CancelledError:
            await asyncio.sleep(0)

    def once(self, kind: Callable[[], Workflow], number: int) -> None:
        """Run it, cancel it when it is inside, read it to its end."""
        workflow = kind()
        reader = workflow.run("go", stream=True, run_id=f"mix-{number}")
        assert self.inside.acquire(timeout=PATIENCE)
        receipt = workflow.cancel(reader.run_id)
        assert receipt.wait(PATIENCE) and receipt.source is Source.user
        *_, last = reader
        assert last.is_terminal and last.is_cancelled


def settled() -> bool:
    """Whether no worker or helper thread is left, no run, and no work that was given up."""
    names = [thread.name for thread in threading.enumerate()]
    busy = any(name.startswith(("desist-worker", "desist-interrupt", "server-connection")) for name in names)
    return not (busy or registry.live() or runs_with_abandoned_work() or abandoned_threads())


def wait_settled() -> None:
    deadline = time.monotonic() + PATIENCE
    while not settled():
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.01)
        gc.collect()


def more_user_loops(before: Census, after: Census) -> int:
    """Return how many loops for async user code were added: one that doesn't turn for 20 ms is joined by another."""
    return after.names["threads"].count("desist-user-loop") - before.names["threads"].count("desist-user-loop")


def test_two_thousand_cancels(
    server: HangingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Threads, sockets, files, tasks, processes, runs, abandoned work and temporary files are back at the start."""
    monkeypatch.setattr("desist.calls.thread_pool.IDLE", 0.1)
    monkeypatch.setattr("desist.runtime.helper_threads.IDLE", 0.1)
    caplog.set_level("ERROR")  # thousands of records otherwise
    mix, chance = Mix(server, tmp_path), random.Random(11)
    for number, kind in enumerate(mix.kinds):
        mix.once(kind, -number)
    wait_settled()
    before = census()
    for number in range(CANCELS):
        mix.once(chance.choice(mix.kinds), number)
    wait_settled()
    gc.collect()
    after = census()
    loops = more_user_loops(before, after)  # kept for good: their number is bounded by how many were blocked at once
    left = {kind: getattr(after, kind) - getattr(before, kind) for kind in before.names}
    assert loops <= 3
    assert left == {"threads": loops, "fds": 4 * loops, "sockets": 2 * loops, "tasks": 0, "children": 0}, after.names
    assert list(tmp_path.iterdir()) == []
    assert registry.pending_cancels == 0
