"""G7 and G8: what a stored run of trivial async steps takes, wall and CPU, over SQLite and over a Postgres with fsync.

`python -m bench.stored_runs PLACE STEPS RUNS` measures one database in this process and prints a line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from bench.statistics import spread
from bench.table import Figure, Table
from desist import Step, Workflow
from desist.db import PostgresDb, SqliteDb
from desist.testing import LocalPostgres

__all__ = ["measure"]

#: Targets in milliseconds, wall and CPU, by database and number of steps.
TARGETS = {("SQLite", 1): (1.2, 1.2), ("SQLite", 10): (3, 3), ("Postgres", 1): (3.5, 2.2), ("Postgres", 10): (8, 5)}
WARM_UP = 30


async def _step(step_input: Any) -> str:
    return "done"


def _run_all(place: str, steps: int, runs: int) -> dict[str, float]:
    db = PostgresDb(place) if "://" in place else SqliteDb(place)
    workflow = Workflow("bench", steps=[Step(f"s{n}", executor=_step) for n in range(steps)], db=db)
    for _ in range(WARM_UP):
        workflow.run("go")
    db.flush()
    waits, cpu = list[float](), time.process_time()
    for _ in range(runs):
        began = time.perf_counter()
        workflow.run("go")
        waits.append(1e3 * (time.perf_counter() - began))
    db.flush()
    cpu = (time.process_time() - cpu) / runs * 1e3
    db.close()
    found = spread(waits)
    assert found is not None
    return {"p50": found.p50, "p99": found.p99, "cpu": cpu}


def _table(kind: str, place: str, steps: int, runs: int) -> Table:
    """Measure in a process of its own: other measurements leave threads and memory behind."""
    command = [sys.executable, "-m", "bench.stored_runs", place, str(steps), str(runs)]
    found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    which = "G7: a stored run of one step" if steps == 1 else f"G8: a stored run of {steps} steps"
    wall, cpu = TARGETS[kind, steps]
    table = Table(f"{which}, {kind} with fsync; {runs} runs; load {os.getloadavg()[0]:.1f}")
    table.add(
        Figure("from run() to its output, p50", found["p50"], "ms", wall),
        Figure("from run() to its output, p99", found["p99"], "ms"),
        Figure("CPU of all threads of this process", found["cpu"], "ms", cpu),
    )
    return table.close()


def _of(kind: str, places: list[str], *, quick: bool) -> list[Table]:
    runs = 100 if quick else 1000
    return [
        _table(kind, place, steps, runs // steps if quick else runs)
        for place, steps in zip(places, (1, 10), strict=True)
    ]


def measure(*, quick: bool) -> list[Table]:
    """Runs of one and of ten steps, over both databases."""
    with tempfile.TemporaryDirectory() as folder:
        found = _of("SQLite", [f"{folder}/{steps}.db" for steps in (1, 10)], quick=quick)
    if LocalPostgres.binaries() is None:
        print("Postgres isn't installed here: its part of `stored_runs` is left out")
        return found
    with LocalPostgres(settings={"fsync": "on", "full_page_writes": "on"}) as server:
        return [*found, *_of("Postgres", [server.new_schema(f"steps{steps}") for steps in (1, 10)], quick=quick)]


if __name__ == "__main__":
    print(json.dumps(_run_all(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
