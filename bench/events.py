"""How many events reach a reader in a second: from a generator, and from an agent on a scripted model."""

from __future__ import annotations

import asyncio
import queue
import statistics
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from bench.table import Figure, Table
from desist.agent import Agent
from desist.testing import ScriptedModel
from desist.workflow import Step, StepInput, Workflow

__all__ = ["measure"]

#: Events, and the CPU seconds and seconds that they took.
Seen = tuple[int, float, float]


def _makers(count: int) -> dict[str, Callable[[], Workflow | Agent]]:
    """Return what makes `count` content events, by name."""

    def pieces(_: StepInput) -> Iterator[str]:
        for _n in range(count):
            yield "word "

    async def async_pieces(_: StepInput) -> AsyncIterator[str]:
        for _n in range(count):
            yield "word "

    def agent() -> Agent:
        return Agent(ScriptedModel("word " * count, repeat=True), name="bench")

    return {
        "sync generator": lambda: Workflow("bench", steps=[Step("one", executor=pieces)]),
        "async generator": lambda: Workflow("bench", steps=[Step("one", executor=async_pieces)]),
        "scripted agent": agent,
        "scripted agent in a workflow": lambda: Workflow("bench", steps=[Step("one", agent=agent())]),
    }


def _clocked(work: Callable[[], int]) -> Seen:
    cpu, began = time.process_time(), time.perf_counter()
    count = work()
    return count, time.process_time() - cpu, time.perf_counter() - began


def _read(made: Workflow | Agent) -> int:
    return sum(1 for _ in made.run("go", stream=True))


async def _aread(made: Workflow | Agent) -> int:
    count = 0
    async for _ in made.arun("go", stream=True):
        count += 1
    return count


def _sync(make: Callable[[], Workflow | Agent], repeats: int) -> list[Seen]:
    made = make()
    return [_clocked(lambda: _read(made)) for _ in range(repeats + 1)][1:]


def _async(work: Callable[[], Awaitable[int]], repeats: int) -> list[Seen]:
    with asyncio.Runner() as runner:

        async def once() -> int:
            return await work()

        return [_clocked(lambda: runner.run(once())) for _ in range(repeats + 1)][1:]


def _figure(name: str, seen: list[Seen], least: int) -> Figure:
    if min(count for count, _, _ in seen) < least:
        raise RuntimeError(f"{name}: {seen} are fewer than {least} events: the figure would be wrong")
    rate = statistics.median(count / took for count, _, took in seen)
    cost = statistics.median(cpu / count for count, cpu, _ in seen) * 1e6
    return Figure(name, rate, "events/s", note=f"{cost:.1f} us of CPU each, all threads")


def _bare_queue(count: int) -> int:
    """From one thread to another through the standard library's fastest queue."""
    line: queue.SimpleQueue[Any] = queue.SimpleQueue()
    maker = threading.Thread(target=lambda: [line.put("word ") for _ in range(count)])
    maker.start()
    for _ in range(count):
        line.get()
    maker.join()
    return count


async def _bare_generator(count: int) -> int:
    """An async generator in an `async for`, nothing else."""

    async def pieces() -> AsyncIterator[str]:
        for _ in range(count):
            yield "word "

    return sum([1 async for _ in pieces()])


def measure(*, quick: bool) -> list[Table]:
    """Read the same events in a thread and on a loop."""
    count, repeats = (5_000, 2) if quick else (20_000, 5)
    table = Table(f"Events per second, {count:,} events as fast as they can be made")
    for name, make in _makers(count).items():
        table.add(_figure(f"{name}, sync reader", _sync(make, repeats), count))
        made = make()
        table.add(_figure(f"{name}, async reader", _async(lambda made=made: _aread(made), repeats), count))  # type: ignore[misc]
    bare = [_clocked(lambda: _bare_queue(count)) for _ in range(repeats)]
    table.add(_figure("reference: SimpleQueue between two threads", bare, count))
    table.add(_figure("reference: a bare async generator", _async(lambda: _bare_generator(count), repeats), count))
    return [table.close()]
