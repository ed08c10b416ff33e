"""D3: what one more trivial function step costs, in CPU time, with nothing stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.clock import median_of
from bench.table import Figure, Table
from desist.db import BaseDb
from desist.workflow import Condition, Loop, Parallel, Router, Step, StepInput, Steps, Workflow

__all__ = ["CONTAINERS", "in_container", "measure"]

TARGET = 60.0  #: microseconds
MANY = 1000


def _plain(_: StepInput) -> str:
    return "done"


async def _async(_: StepInput) -> str:
    return "done"


def _workflow(function: Callable[..., Any], steps: int) -> Workflow:
    return Workflow("bench", steps=[Step(f"step {n}", executor=function) for n in range(steps)])


def _each(function: Callable[..., Any], steps: int, runs: int, repeats: int) -> float:
    """Return microseconds for each step of `runs` runs one after the other."""
    workflow = _workflow(function, steps)

    def work() -> None:
        for _ in range(runs):
            workflow.run("go")

    return median_of(work, repeats) / (steps * runs) * 1e6


def _each_async(function: Callable[..., Any], steps: int, runs: int, repeats: int) -> float:
    """The same with `arun`, on one loop."""
    workflow = _workflow(function, steps)

    async def work() -> None:
        for _ in range(runs):
            await workflow.arun("go")

    with asyncio.Runner() as runner:
        return median_of(lambda: runner.run(work()), repeats) / (steps * runs) * 1e6


def in_container(kind: str, repeats: int, db: BaseDb | None = None) -> float:
    """Return microseconds for each async function step of a container of `CONTAINERS` that runs 500 of them."""
    steps = [Step(f"step {n}", executor=_async) for n in range(500)]
    names = [step.name for step in steps]
    made: dict[str, Callable[[], Any]] = {
        "Steps": lambda: Steps("box", steps=steps),
        "Parallel": lambda: Parallel("box", *steps),
        "Loop": lambda: Loop([steps[0]], "box", max_iterations=500),
        "Condition": lambda: Condition(steps, name="box"),
        "Router": lambda: Router(steps, lambda _: names, "box"),
        "Workflow": lambda: Workflow("box", steps=steps),
        "10 Steps inside one another": lambda: _deep(steps, 10),
    }
    workflow = Workflow("bench", steps=[made[kind]()], db=db)

    async def work() -> None:
        await workflow.arun("go")
        if db is not None:
            db.flush()

    with asyncio.Runner() as runner:
        return median_of(lambda: runner.run(work()), repeats) / 500 * 1e6


def _deep(steps: list[Step], depth: int) -> Steps:
    return Steps(f"box {depth}", steps=steps if depth == 1 else [_deep(steps, depth - 1)])


CONTAINERS = ("Steps", "Parallel", "Loop", "Condition", "Router", "Workflow", "10 Steps inside one another")


def _hop(repeats: int) -> float:
    """Return microseconds for a plain call through asyncio's own executor."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(MANY):
            await loop.run_in_executor(pool, _plain, StepInput())

    with ThreadPoolExecutor(1) as pool, asyncio.Runner() as runner:
        return median_of(lambda: runner.run(work()), repeats) / MANY * 1e6


def measure(*, quick: bool) -> list[Table]:
    """Measure workflows of 1,000 steps, and whole runs of one step."""
    repeats = 3 if quick else 7
    table = Table("D3: CPU time for each trivial function step, nothing stored")
    table.add(
        Figure("sync function (own thread), run()", _each(_plain, MANY, 1, repeats), "us", TARGET),
        Figure("sync function (own thread), arun()", _each_async(_plain, MANY, 1, repeats), "us", TARGET),
        Figure("async function, run()", _each(_async, MANY, 1, repeats), "us", TARGET),
        Figure("async function, arun()", _each_async(_async, MANY, 1, repeats), "us", TARGET),
        Figure("a whole run of one sync step, run()", _each(_plain, 1, 200, repeats), "us"),
        Figure("a whole run of one async step, run()", _each(_async, 1, 200, repeats), "us"),
        Figure("a whole run of one async step, arun()", _each_async(_async, 1, 200, repeats), "us"),
        Figure("reference: run_in_executor, nothing else", _hop(repeats), "us"),
        Figure("reference: a plain call", median_of(lambda: [_plain(StepInput()) for _ in range(MANY)], 3) * 1e3, "us"),
    )
    inside = Table("CPU time for each async function step inside a container, arun(), nothing stored")
    for kind in CONTAINERS:
        inside.add(Figure(kind, in_container(kind, repeats), "us", TARGET))
    many = _each_async(_async, 10 * MANY, 1, repeats)
    inside.add(Figure("a workflow of 10,000 steps", many, "us", TARGET))
    return [table.close(), inside.close()]
