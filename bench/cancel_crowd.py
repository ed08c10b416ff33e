"""How long `cancel()` holds its caller when very much is to be stopped: 2,000 async tasks, 2,000 runs, 500 threads.

Also as a command: `python -m bench.cancel_crowd [--quick]`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from bench.statistics import spread
from bench.table import Figure, Table
from desist.agent import Agent
from desist.cancel.receipt import CancelReceipt
from desist.models.base import Model, ModelRequest
from desist.models.response import ModelResponse
from desist.testing import Gate
from desist.workflow import Parallel, Step, StepInput, Workflow

__all__ = ["measure"]

TASKS, THREADS = 2000, 500
_ids = itertools.count()
_cpu: list[float] = []  #: milliseconds of each cancel(), without what others had of the machine


class Waiting(Model):
    """Waits at a gate for ever."""

    def __init__(self, gate: Gate) -> None:
        self.id, self.gate = "waiting", gate

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelResponse]:
        """Say nothing."""
        await self.gate.wait()
        yield ModelResponse(content="")


def _wide(step: Callable[[int], Step], count: int) -> Workflow:
    return Workflow("bench", steps=[Parallel("wide", *[step(n) for n in range(count)])])


def _tasks(gate: Gate) -> Workflow:
    async def wait(_: StepInput) -> None:
        await gate.wait()

    return _wide(lambda n: Step(f"task {n}", executor=wait), TASKS)


def _agents(gate: Gate) -> Workflow:
    return _wide(lambda n: Step(f"agent {n}", agent=Agent(Waiting(gate), name=f"agent {n}")), TASKS)


def _threads(gate: Gate) -> Workflow:
    def wait(_: StepInput) -> None:
        gate.wait_blocking()

    return _wide(lambda n: Step(f"thread {n}", executor=wait), THREADS)


def _timed(workflow: Workflow, run_id: str) -> tuple[CancelReceipt, float]:
    began, cpu = time.perf_counter(), time.thread_time()
    receipt = workflow.cancel(run_id, grace=5.0)
    held = time.perf_counter() - began
    _cpu.append((time.thread_time() - cpu) * 1e3)
    return receipt, held


def _from_thread(make: Callable[[Gate], Workflow], count: int) -> tuple[float, float, int]:
    """Run in a thread, cancel from this one; return ms of `cancel()`, ms until it has settled, and what was left."""
    gate, run_id = Gate(), f"crowd {next(_ids)}"
    workflow = make(gate)
    run = threading.Thread(target=lambda: workflow.run("go", run_id=run_id))
    run.start()
    gate.wait_reached(count, timeout=120)
    began = time.perf_counter()
    receipt, held = _timed(workflow, run_id)
    receipt.wait()
    settled = time.perf_counter() - began
    run.join()
    return held * 1e3, settled * 1e3, len(receipt.abandoned)


def _on_loop(make: Callable[[Gate], Workflow], count: int) -> tuple[float, float, int]:
    """The same on the loop that the run is on."""

    async def main() -> tuple[float, float, int]:
        gate, run_id = Gate(), f"crowd {next(_ids)}"
        workflow = make(gate)
        run = asyncio.ensure_future(workflow.arun("go", run_id=run_id))
        await asyncio.to_thread(gate.wait_reached, count, 120)
        began = time.perf_counter()
        receipt, held = _timed(workflow, run_id)
        await receipt
        settled = time.perf_counter() - began
        with contextlib.suppress(asyncio.CancelledError):
            await run
        return held * 1e3, settled * 1e3, len(receipt.abandoned)

    return asyncio.run(main())


Shape = tuple[str, Callable[[Any], Workflow], int, float, Callable[..., tuple[float, float, int]]]


def _shapes() -> Iterator[Shape]:
    yield f"{TASKS} async steps, from a thread", _tasks, TASKS, 5, _from_thread
    yield f"{TASKS} async steps, on their own loop", _tasks, TASKS, 5, _on_loop
    yield f"{TASKS} agents, from a thread", _agents, TASKS, 5, _from_thread
    yield f"{TASKS} agents, on their own loop", _agents, TASKS, 5, _on_loop
    yield f"{THREADS} threads, from a thread", _threads, THREADS, 20, _from_thread
    yield f"{THREADS} threads, on the run's loop", _threads, THREADS, 20, _on_loop


def measure(*, quick: bool) -> list[Table]:
    """Measure each shape."""
    repeats = 3 if quick else 15
    table = Table("How long cancel() holds its caller when very much is to be stopped")
    for name, make, count, target, way in _shapes():
        _cpu.clear()
        found = [way(make, count) for _ in range(repeats + 1)][1:]
        cpu = spread(_cpu[1:])
        held, settled = spread([one[0] for one in found]), spread([one[1] for one in found])
        assert held is not None and settled is not None
        left = max(one[2] for one in found)
        note = f"p50/p99/worst {held}; CPU {cpu}; settled after {settled}; abandoned {left}"
        table.add(Figure(f"cancel(): {name}", held.p99, "ms", target, note=note))
    return [table.close()]


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.cancel_crowd", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 repeats")
    logging.getLogger("desist").addHandler(logging.NullHandler())  # what is abandoned shows in the table
    tables = measure(quick=parser.parse_args().quick)
    for table in tables:
        print(table.text())
    return int(any(not figure.ok for table in tables for figure in table.figures))


if __name__ == "__main__":
    sys.exit(_main())
