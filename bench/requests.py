"""D6: how many cancel requests one process answers in a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from bench.table import Figure, Table
from desist import cancel_run
from desist.workflow import Step, StepInput, Workflow

__all__ = ["measure"]

TARGET = 20_000.0
LIVE = 200


def _rate(ids: list[str], expected: bool) -> float:
    """Return answers per second of wall time."""
    began = time.perf_counter()
    answers = [cancel_run(run_id) for run_id in ids]
    took = time.perf_counter() - began
    if answers.count(expected) != len(ids):
        raise RuntimeError(f"{answers.count(not expected)} of {len(ids)} answers weren't {expected}")
    return len(ids) / took


def _ended(count: int) -> float:
    workflow = Workflow("bench", steps=[Step("one", executor=_at_once)])
    for n in range(100):
        workflow.run("go", run_id=f"ended {n}")
    return _rate([f"ended {n % 100}" for n in range(count)], False)


async def _at_once(_: StepInput) -> str:
    return "done"


def _live(measure: Callable[[list[str]], float]) -> float:
    """Measure with runs that wait; those that clean up stay CANCELLING for as long as it takes."""
    leave = asyncio.Event()

    async def wait(_: StepInput) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await leave.wait()

    async def main() -> float:
        workflow = Workflow("bench", steps=[Step("one", executor=wait)], grace=30)
        ids = [f"live {n}" for n in range(LIVE)]
        runs = [asyncio.ensure_future(workflow.arun("go", run_id=run_id)) for run_id in ids]
        for _ in range(20):
            await asyncio.sleep(0)
        rate = measure(ids)
        await asyncio.sleep(0.01)
        leave.set()
        await asyncio.gather(*runs)
        return rate

    return asyncio.run(main())


def measure(*, quick: bool) -> list[Table]:
    """Measure requests for runs that wait, end, ended and never were."""
    count = 20_000 if quick else 100_000

    def repeated(ids: list[str]) -> float:
        _rate(ids, True)
        return _rate(ids * (count // LIVE), True)

    table = Table("D6: cancel requests answered per second, one process, one thread")
    table.add(
        Figure("for runs that are being cancelled", _live(repeated), "/s", TARGET, "more"),
        Figure("for ids not seen yet", _rate([f"unknown {n}" for n in range(count)], False), "/s", TARGET, "more"),
        Figure("for ended runs", _ended(count), "/s", TARGET, "more"),
        Figure("first requests, each stops a run", _live(lambda ids: _rate(ids, True)), "/s"),
    )
    return [table.close()]
