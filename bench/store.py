"""What storing costs: for each function step, for a whole run, and what a stored run holds in memory."""

from __future__ import annotations

import gc
import sqlite3
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from bench.clock import median_of
from bench.steps import CONTAINERS, in_container
from bench.table import Figure, Table
from desist import Step, StepInput, Workflow
from desist.db import BaseDb, InMemoryDb, JsonDb, SqliteDb

__all__ = ["measure"]

STEPS, MANY = 1000, 10_000


async def _step(_: StepInput) -> str:
    return "done"


def _workflow(db: BaseDb | None, steps: int) -> Workflow:
    return Workflow("bench", steps=[Step(f"step {n}", executor=_step) for n in range(steps)], db=db)


def _each(db: BaseDb | None, steps: int, runs: int, repeats: int) -> float:
    """Return microseconds of CPU, of all threads, for each step; what is left to be written is waited for."""
    workflow = _workflow(db, steps)

    def work() -> None:
        for _ in range(runs):
            workflow.run("go")
        if db is not None:
            db.flush()

    return median_of(work, repeats) / (steps * runs) * 1e6


def _waited(db: BaseDb | None, runs: int) -> float:
    """Return milliseconds for a whole run of one step, as whoever waits for it sees them: the median."""
    workflow = _workflow(db, 1)
    seen = []
    for _ in range(runs):
        began = time.perf_counter()
        workflow.run("go", session_id="s")
        seen.append(time.perf_counter() - began)
    return sorted(seen)[len(seen) // 2] * 1e3


def _commit(folder: Path, sync: str) -> float:
    """Return milliseconds for a bare commit of one row: the median, for comparison."""
    with closing(sqlite3.connect(folder / f"bare-{sync}.db", isolation_level=None)) as connection:
        connection.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = {sync}; CREATE TABLE t (x)")
        seen = []
        for _ in range(200):
            began = time.perf_counter()
            connection.execute("INSERT INTO t VALUES (?)", ("x" * 500,))
            seen.append(time.perf_counter() - began)
    return sorted(seen)[len(seen) // 2] * 1e3


def _held(make: Callable[[], BaseDb], runs: int) -> float:
    """Return kilobytes that each ended run leaves in this process."""
    db = make()
    workflow = _workflow(db, 1)

    def work(count: int) -> None:
        for _ in range(count):
            workflow.run("go")
        db.flush()

    work(1200)  # what the registry remembers of ended runs is bounded, and not meant here
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work(runs)
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / runs / 1e3
    finally:
        tracemalloc.stop()
        db.close()


def measure(*, quick: bool) -> list[Table]:
    """Measure workflows of trivial async steps with each store."""
    repeats, runs = (3, 100) if quick else (7, 300)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sqlite, files, memory = SqliteDb(folder / "bench.db"), JsonDb(folder / "json"), InMemoryDb(keep=100)
        steps = Table("Storing: CPU time for each trivial async step of a workflow of 1,000, all threads")
        steps.add(
            Figure("no db", _each(None, STEPS, 1, repeats), "us"),
            Figure("no db, of 10,000 steps", _each(None, MANY, 1, 1 if quick else 3), "us"),
            Figure("InMemoryDb", _each(memory, STEPS, 1, repeats), "us"),
            Figure("SqliteDb", _each(sqlite, STEPS, 1, repeats), "us"),
            Figure("SqliteDb, of 10,000 steps", _each(sqlite, MANY, 1, 1 if quick else 3), "us"),
            Figure("JsonDb", _each(files, STEPS, 1, repeats), "us"),
        )
        inside = Table("Storing: the same inside a container of 500, SqliteDb")
        for kind in CONTAINERS:
            plain = in_container(kind, repeats)
            inside.add(Figure(kind, in_container(kind, repeats, sqlite), "us", note=f"{plain:.1f} us without a db"))
        whole = Table("Storing: a run of one step, from run() to its output (start and end are stored)")
        whole.add(
            Figure("no db", _waited(None, runs), "ms"),
            Figure("InMemoryDb", _waited(memory, runs), "ms"),
            Figure("SqliteDb", _waited(sqlite, runs), "ms"),
            Figure("reference: a bare commit, synchronous = FULL", _commit(folder, "FULL"), "ms"),
            Figure("reference: a bare commit, synchronous = NORMAL", _commit(folder, "NORMAL"), "ms"),
        )
        for db in (sqlite, files, memory):
            db.close()
        held = Table("Storing: what an ended run leaves in the memory of its process")
        held.add(
            Figure("InMemoryDb", _held(InMemoryDb, runs), "kB"),
            Figure("SqliteDb", _held(lambda: SqliteDb(folder / "held.db"), runs), "kB"),
        )
    return [steps.close(), inside.close(), whole.close(), held.close()]
