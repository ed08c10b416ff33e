"""What wide and deep workflows cost: a Parallel of 64, containers 10 deep; to run, and to cancel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from bench.clock import median_of
from bench.statistics import spread
from bench.table import Figure, Table
from desist.testing import Gate
from desist.workflow import Condition, Loop, Parallel, Router, Step, StepInput, Steps, Workflow

__all__ = ["measure"]

WIDE, DEEP = 64, 10

#: What is put around a step, at each level.
WRAPS: dict[str, Callable[[Any, str], Any]] = {
    "Steps": lambda inner, name: Steps(name, steps=[inner]),
    "Parallel": lambda inner, name: Parallel(name, inner, Step(f"beside {name}", executor=_quick)),
    "Loop": lambda inner, name: Loop([inner], name, max_iterations=1),
    "Condition": lambda inner, name: Condition([inner], name=name),
    "Router": lambda inner, name: Router([inner], lambda _: [inner.name], name),
    "Workflow": lambda inner, name: Workflow(name, steps=[inner]),
}


async def _quick(_: StepInput) -> str:
    return "done"


def _plain(_: StepInput) -> str:
    return "done"


def _wide(function: Callable[..., Any]) -> Workflow:
    branches = [Step(f"branch {n}", executor=function) for n in range(WIDE)]
    return Workflow("bench", steps=[Parallel("wide", *branches)])


def _deep(kind: str, function: Callable[..., Any]) -> Workflow:
    inner: Any = Step("inmost", executor=function)
    for level in range(DEEP):
        inner = WRAPS[kind](inner, f"level {level}")
    return Workflow("bench", steps=[inner])


def _cost(workflow: Workflow, repeats: int) -> float:
    """Return milliseconds of CPU for a whole run, awaited on one loop: the median."""
    with asyncio.Runner() as runner:

        async def work() -> None:
            for _ in range(5):
                await workflow.arun("go")

        return median_of(lambda: runner.run(work()), repeats) / 5 * 1e3


def _stop(make: Callable[[Callable[..., Any]], Workflow], waiting: int, repeats: int, *, sync: bool = False) -> str:
    """Cancel runs in which `waiting` steps wait; return the time to the terminal event, in ms."""
    times = []
    for number in range(repeats + 1):
        gate = Gate()
        run_id = f"{make} {number}"
        workflow = make(_blocking(gate) if sync else _async(gate))
        reader = workflow.run("go", stream=True, run_id=run_id)
        gate.wait_reached(waiting)
        began = time.monotonic()
        receipt = workflow.cancel(run_id)
        last = [*reader][-1]
        times.append((time.monotonic() - began) * 1e3)
        if not (receipt and last.is_cancelled) or receipt.abandoned:
            raise RuntimeError(f"not cancelled as it should be: {receipt}, {last}")
    return str(spread(times[1:]))


def _async(gate: Gate) -> Callable[..., Any]:
    async def wait(_: StepInput) -> None:
        await gate.wait()

    return wait


def _blocking(gate: Gate) -> Callable[..., Any]:
    def wait(_: StepInput) -> None:
        gate.wait_blocking()

    return wait


def measure(*, quick: bool) -> list[Table]:
    """Measure whole runs, and cancels while all that can wait does."""
    repeats, stops = (3, 5) if quick else (7, 40)
    table = Table(
        "Wide and deep: a whole run, and from cancel() to the terminal event",
        columns=["workflow", "CPU of a run", "cancel, p50/p99/worst in ms"],
    )

    def add(name: str, workflow: Workflow, stop: str) -> None:
        cost = _cost(workflow, repeats)
        table.figures.append(Figure(f"{name}: a whole run", cost, "ms", note=f"cancel {stop}"))
        table.rows.append([name, f"{cost:.2f} ms", stop])

    add(f"Parallel of {WIDE} async steps", _wide(_quick), _stop(_wide, WIDE, stops))
    add(f"Parallel of {WIDE} sync steps", _wide(_plain), _stop(_wide, WIDE, stops, sync=True))
    for kind in WRAPS:
        add(
            f"{DEEP} deep: {kind}",
            _deep(kind, _quick),
            _stop(lambda function, kind=kind: _deep(kind, function), 1, stops),  # type: ignore[misc]
        )
    return [table.close()]
