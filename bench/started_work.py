"""Work that a call hands on (rows E1 to E10 and E12): how soon after a cancel everything is gone, and what it costs.

"Settled" is when the receipt says so. "Census" is what a look from outside finds then: children in the process table,
connections that the server still holds, and threads that still beat. It must be what `abandoned` names.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psutil

from bench.statistics import spread
from bench.table import Figure, Table
from bench.thread_interrupts import hanging
from desist.calls.dispatch import call_user_code
from desist.runtime.background_loop import background_loop
from desist.workflow import Step, Workflow

__all__ = ["measure"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One row: a name, the work, and the target for p99 in ms."""

    name: str
    work: Callable[[], Any]
    target: float


class Beats:
    """Work that shows from outside whether it runs: it counts in short naps."""

    def __init__(self) -> None:
        self.count = 0

    def work(self) -> None:
        """Nap and count, for ever."""
        while True:
            time.sleep(0.001)
            self.count += 1

    def still_run(self) -> bool:
        """Return whether somebody has counted within 20 ms."""
        before = self.count
        time.sleep(0.02)
        return self.count != before


class Works:
    """The bodies of the rows. Pools, the connection and the loop are older than the calls."""

    def __init__(self, port: int, beats: Beats) -> None:
        self.port, self.beat = port, beats.work
        self.pool = ThreadPoolExecutor(8)
        self.loop = asyncio.new_event_loop()
        self.kept: list[socket.socket] = []

    def connect(self) -> None:
        """Open the connection of the next call before it begins."""
        while self.kept:
            self.kept.pop().close()
        self.kept.append(socket.create_connection(("127.0.0.1", self.port)))

    async def child(self) -> None:
        process = await asyncio.create_subprocess_exec("sleep", "300")
        await process.wait()

    async def to_thread(self) -> None:
        await asyncio.to_thread(self.beat)

    async def in_pool(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self.pool, self.beat)

    def own_pool(self) -> None:
        with ThreadPoolExecutor(4) as pool:
            for job in [pool.submit(self.beat) for _ in range(4)]:
                job.result()

    def shared_pool(self) -> None:
        for job in [self.pool.submit(self.beat) for _ in range(4)]:
            job.result()

    def threads(self) -> None:
        threads = [threading.Thread(target=self.beat) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def process_pool(self) -> None:
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(time.sleep, [300, 300])

    def kept_connection(self) -> None:
        self.kept[-1].recv(1)

    def kept_loop(self) -> None:
        async def read() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                await reader.readline()
            finally:
                writer.close()

        self.loop.run_until_complete(read())

    def shell(self) -> None:
        subprocess.run("setsid sleep 300 & (setsid sleep 300 &) ; sleep 300; true", shell=True, check=False)

    async def tasks(self) -> None:
        await asyncio.gather(*(asyncio.sleep(300) for _ in range(3)))


def measure(*, quick: bool = False) -> Iterator[Table]:
    """Measure and yield the tables."""
    with contextlib.ExitStack() as stack:
        beats = Beats()
        works = Works(stack.enter_context(hanging(None)), beats)
        stack.callback(works.pool.shutdown, wait=False)
        kinds = [
            Kind("E1 async: a child process", works.child, 20),
            Kind("E2 async: asyncio.to_thread", works.to_thread, 60),
            Kind("E2 async: run_in_executor(pool)", works.in_pool, 60),
            Kind("E3 a pool of 4 threads, own", works.own_pool, 60),
            Kind("E3 a pool of 4 threads, older", works.shared_pool, 60),
            Kind("E4 4 threads, joined", works.threads, 60),
            Kind("E5 multiprocessing.Pool, fork", works.process_pool, 60),
            Kind("E6 a connection opened before", works.kept_connection, 10),
            Kind("E8 a loop kept between calls", works.kept_loop, 20),
            Kind("E9 async: tasks", works.tasks, 20),
            Kind("E10 a shell, setsid, a double fork", works.shell, 60),
        ]
        table = Table(
            "Work that a call hands on, p50/p99/worst in ms from cancel() to settled",
            columns=["work", "run()", "arun()", "abandoned", "left over", ""],
        )
        for kind in kinds:
            table.rows.append(_row(table, kind, works, beats, 3 if quick else 30))
        yield table.close()
    yield _costs(200 if quick else 2000)


def _row(table: Table, kind: Kind, works: Works, beats: Beats, repeats: int) -> list[str]:
    times: list[str] = []
    abandoned, left, worst = 0, "nothing", 0.0
    for face in ("run", "arun"):
        samples: list[float] = []
        for _ in range(repeats):
            works.connect()
            milliseconds, named = _once(kind, face)
            samples.append(milliseconds)
            abandoned += named
            children = psutil.Process().children(recursive=True)
            if not named and (children or beats.still_run()):
                left = f"{len(children)} children" if children else "a thread"
        found = spread(samples)
        assert found is not None
        worst = max(worst, found.p99)
        times.append(str(found))
    figure = Figure(f"{kind.name}: settled, p99", worst, "ms", kind.target)
    table.figures.append(figure)
    return [kind.name, *times, str(abandoned), left, figure.verdict]


def _once(kind: Kind, face: str) -> tuple[float, int]:
    """Run the work, cancel it when it is well inside; return the time to settle and how much was abandoned."""
    inside = threading.Event()

    async def work_async(_: Any) -> None:
        inside.set()
        await kind.work()

    def work(_: Any) -> None:
        inside.set()
        kind.work()

    step = Step("work", executor=work_async if asyncio.iscoroutinefunction(kind.work) else work, max_retries=0)
    workflow, run_id = Workflow("bench", steps=[step]), f"bench-{time.monotonic_ns()}"

    def go() -> None:
        if face == "run":
            workflow.run("go", run_id=run_id)
        else:
            asyncio.run(workflow.arun("go", run_id=run_id))

    thread = threading.Thread(target=go)
    thread.start()
    inside.wait()
    time.sleep(0.05)
    began = time.monotonic()
    receipt = workflow.cancel(run_id)
    receipt.wait(10)
    took = (time.monotonic() - began) * 1e3
    thread.join()
    return took, len(receipt.abandoned)


def _costs(repeats: int) -> Table:
    """Return what the ownership costs when nothing is cancelled: CPU time, the best of five rounds."""
    table = Table("E12: what owning costs when nothing is cancelled, CPU in us")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()

        def jobs() -> float:
            began = time.process_time()
            for _ in range(repeats):
                pool.submit(int).result()
            return (time.process_time() - began) / repeats * 1e6

        outside = min(jobs() for _ in range(5))
        inside = min(_call(jobs) for _ in range(5))
        threads = min(_call(lambda: _threads(repeats // 10)) for _ in range(5)) - min(
            _threads(repeats // 10) for _ in range(5)
        )
    table.add(
        Figure("a job in a pool, more than outside of a call", inside - outside, "us", 10),
        Figure("a thread, more than outside of a call", threads, "us"),
    )
    return table.close()


def _threads(count: int) -> float:
    began = time.process_time()
    for _ in range(count):
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
    return (time.process_time() - began) / count * 1e6


def _call(work: Callable[[], float]) -> float:
    """Make a sync call of user code, as a step does."""
    waiting = call_user_code(work, name="jobs", is_async=False)
    result: float = asyncio.run_coroutine_threadsafe(waiting, background_loop.loop()).result()
    return result
