"""What a run that waits holds in memory, and what a stored one takes on the disk."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bench.table import Figure, Table
from desist.agent import Agent
from desist.db import SqliteDb
from desist.testing import Gate, ScriptedModel
from desist.workflow import Parallel, Step, StepInput, Workflow

__all__ = ["measure"]


async def _held(runs: int, start: Callable[[int], Awaitable[None]]) -> float:
    """Return kilobytes of Python's objects for each of `runs` runs."""
    await start(20)  # what is made once isn't counted
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        await start(runs)
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / runs / 1e3
    finally:
        tracemalloc.stop()


def _of(runs: int, make: Callable[[Gate], Workflow], each: int = 1) -> float:
    """The same for runs on one loop, whose `each` branches wait at the gate that `make` is given."""

    async def main() -> float:
        gate = Gate()
        workflow = make(gate)
        begun: list[asyncio.Task[Any]] = []

        async def start(count: int) -> None:
            begun.extend(asyncio.ensure_future(workflow.arun("go")) for _ in range(count))
            while gate.reached < len(begun) * each:
                await asyncio.sleep(0)

        held = await _held(runs, start)
        gate.open()
        await asyncio.gather(*begun)
        return held

    return asyncio.run(main())


def _async_step(gate: Gate, name: str = "wait") -> Step:
    async def wait(_: StepInput) -> str:
        await gate.wait()
        return "done"

    return Step(name, executor=wait)


def _sync_step(gate: Gate) -> Step:
    def wait(_: StepInput) -> str:
        gate.wait_blocking()
        return "done"

    return Step(executor=wait)


def _agent(gate: Gate) -> Step:
    return Step(agent=Agent(ScriptedModel([["some ", "words ", gate]], repeat=True), name="bench"))


def _on_disk(runs: int) -> float:
    """Return kilobytes of the file for each stored run of three steps."""

    def step(_: StepInput) -> str:
        return "one line of text, as a step returns it"

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.db"
        db = SqliteDb(path)
        workflow = Workflow("bench", steps=[Step(f"step {n}", executor=step) for n in range(3)], db=db)
        for number in range(runs):
            workflow.run("go", session_id=f"s{number % 10}")
        db.close()
        return path.stat().st_size / runs / 1e3


def measure(*, quick: bool) -> list[Table]:
    """Measure runs that are alive and wait, and runs that were stored."""
    runs = 50 if quick else 200
    scenes: dict[str, tuple[Callable[[Gate], Workflow], int]] = {
        "an async step": (lambda gate: Workflow("bench", steps=[_async_step(gate)]), 1),
        "an agent in a step, in mid-answer": (lambda gate: Workflow("bench", steps=[_agent(gate)]), 1),
        "a Parallel of 4 async steps": (
            lambda gate: Workflow("bench", steps=[Parallel(*[_async_step(gate, f"{n}") for n in range(4)])]),
            4,
        ),
        "a sync step, in a thread of its own": (lambda gate: Workflow("bench", steps=[_sync_step(gate)]), 1),
    }
    table = Table(f"Memory of a run that waits, of {runs} at a time")
    for name, (make, each) in scenes.items():
        table.add(Figure(name, _of(runs, make, each), "kB", note="and its stack" if "thread" in name else ""))
    table.add(Figure("a stored run of 3 steps, in SQLite's file", _on_disk(5 * runs), "kB"))
    return [table.close()]
