"""Calls in processes of their own: their start, their round trip, and how long a cancel takes until all is dead."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import process_functions as functions
from bench.statistics import spread
from bench.table import Figure, Table
from desist.agent import Agent
from desist.calls.process import run_in_process
from desist.calls.process.pool import pool
from desist.testing import Call, ScriptedModel
from desist.tools import tool

__all__ = ["measure"]

#: What a cancel meets: the function, its grace in seconds, and what p99 of "all dead" should be below, in ms.
SCENES: tuple[tuple[Callable[..., Any], float, float], ...] = (
    (functions.sleeping, 0.05, 20.0),
    (functions.looping, 0.05, 20.0),
    (functions.hashing, 0.05, 75.0),
    (functions.summing, 0.05, 75.0),
    (functions.deaf, 0.05, 75.0),
    (functions.deaf, 0.0, 20.0),
    (functions.family, 0.05, 75.0),
)


def measure(*, quick: bool = False) -> Iterator[Table]:
    """Measure and yield the tables."""
    yield _starts(5 if quick else 25)
    yield _trips(50 if quick else 500)
    yield _kills(5 if quick else 50)


def _figures(name: str, seconds: list[float], target: float | None = None) -> list[Figure]:
    found = spread([1000 * one for one in seconds])
    assert found is not None
    note = f"p50/p99/worst {found}, n={found.count}"
    return [Figure(f"{name}, p50", found.p50, "ms", None, note=note), Figure(f"{name}, p99", found.p99, "ms", target)]


async def _timed(value: bytes) -> float:
    began = time.perf_counter()
    await run_in_process(functions.echo, (value,), name="echo")
    return time.perf_counter() - began


def _starts(repeats: int) -> Table:
    async def cold() -> float:
        await asyncio.to_thread(pool.empty, 10.0)
        return await _timed(b"")

    async def all_of_them() -> list[float]:
        return [await cold() for _ in range(repeats)]

    table = Table("The first call: a fresh interpreter is started, and another one ahead")
    table.add(*_figures("cold call", asyncio.run(all_of_them()), 400.0))
    return table.close()


def _trips(repeats: int) -> Table:
    async def trips(value: bytes, count: int) -> list[float]:
        return [await _timed(value) for _ in range(count + 3)][3:]

    table = Table("A call to a warm worker and back")
    for size, target in ((10, 5.0), (10_000, 5.0), (1_000_000, 50.0)):
        count = repeats if size < 1_000_000 else repeats // 10
        table.add(*_figures(f"{size:,} bytes", asyncio.run(trips(os.urandom(size), count)), target))
    return table.close()


def _kills(repeats: int) -> Table:
    table = Table("From the cancel of a run until nothing of its process is left, and the run has settled")
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        door = str(Path(folder) / "door")
        server.bind(door)
        server.listen()
        for function, grace, target in SCENES:
            isolated = tool(isolation="process", grace=grace)(function)
            model = ScriptedModel([Call(function.__name__, {"door": door})], repeat=True)
            agent = Agent(model, tools=[isolated])
            taken = [_cancelled(agent, server) for _ in range(repeats + 2)][2:]
            table.add(*_figures(f"{function.__name__}, grace {1000 * grace:g} ms", taken, target))
    return table.close()


def _cancelled(agent: Agent, server: socket.socket) -> float:
    """Start a run, cancel it when its tool is in, and return the seconds until it had settled."""
    run = agent.run("go", stream=True)
    server.accept()[0].close()
    time.sleep(0.003)
    began = time.perf_counter()
    receipt = agent.cancel(run.run_id)
    if not receipt.wait(10) or receipt.abandoned:
        raise RuntimeError(f"not settled, or not dead: {receipt} {receipt.abandoned}")
    return time.perf_counter() - began


if __name__ == "__main__":
    for made in measure():
        print(made.text(), flush=True)
