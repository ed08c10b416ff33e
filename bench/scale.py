"""Submitted runs on workers: how many a second, what that costs, how soon one is done, how soon one is stopped.

Postgres with fsync on, and SQLite. Section G of the acceptance table; `bench.peers` has others in the same units.
"""

from __future__ import annotations

import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from bench.scale_worker import open_db, workflows
from bench.statistics import spread
from bench.table import Figure, Table
from desist.testing import LocalPostgres

__all__ = ["measure"]

#: How many runs a worker executes at a time.
CONCURRENCY = 20


class _Worker:
    """A process that works."""

    def __init__(self, url: str) -> None:
        command = [sys.executable, "-m", "bench.scale_worker", url, str(CONCURRENCY)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said: queue.Queue[list[str]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        assert self.said.get(timeout=60) == ["ready"]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.put(line.split())

    def cpu(self) -> float:
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)


@contextmanager
def _fleet(url: str, count: int) -> Iterator[tuple[Any, list[_Worker]]]:
    db = open_db(url)
    workers = [_Worker(url) for _ in range(count)]
    try:
        yield db, workers
    finally:
        for worker in workers:
            worker.close()
        db.close()


def _throughput(url: str, workers_count: int, count: int) -> list[Figure]:
    """G1, G2: the runs wait before the first worker may claim one, so that submitting costs nothing meanwhile."""
    with _fleet(url, workers_count) as (db, workers):
        quick = workflows(db)[0]
        quick.submit("0").result(60)
        db.pause_workflow(quick.id)
        submitted = quick.submit_many([str(number) for number in range(count)])
        before, began = sum(worker.cpu() for worker in workers), time.monotonic()
        db.resume_workflow(quick.id)
        while submitted.progress()["COMPLETED"] < count:  # type: ignore[index]
            time.sleep(0.02)
        took, cpu = time.monotonic() - began, sum(worker.cpu() for worker in workers) - before
    what = f"{count} runs of one step, {workers_count} workers"
    return [
        Figure(f"{what}: from the first claim to the last end", count / took, "runs/s"),
        Figure(f"{what}: CPU of the workers a run", 1e3 * cpu / count, "ms", 3.0),
    ]


def _submitting(url: str, repeats: int, many: int) -> list[Figure]:
    """G4: one by one, and many in one call."""
    db = open_db(url)
    quick = workflows(db)[0]
    quick.submit("0")
    seen = []
    for number in range(repeats):
        began = time.monotonic()
        quick.submit(str(number))
        seen.append(1e3 * (time.monotonic() - began))
    began = time.monotonic()
    quick.submit_many([str(number) for number in range(many)])
    each = 1e3 * (time.monotonic() - began) / many
    db.close()
    found = spread(seen)
    assert found is not None
    return [
        Figure("submit: durable, p50", found.p50, "ms", 1.5),
        Figure(f"submit_many of {many}: durable, each", each, "ms", 0.3),
    ]


def _latencies(url: str, repeats: int) -> list[Figure]:
    """G3, G5, and the cancel of a run that waits and of one that is executed."""
    begins, stops, queued = list[float](), list[float](), list[float]()
    with _fleet(url, 2) as (db, workers):
        quick, waits = workflows(db)
        for number in range(repeats):
            began = time.monotonic()
            quick.submit(str(number)).result(60)
            begins.append(time.monotonic() - began)
        for number in range(repeats):
            run = waits.submit(str(number))
            while run.status.value == "PENDING":
                time.sleep(0.005)
            began = time.monotonic()
            run.cancel().wait(60)
            stops.append(time.monotonic() - began)
        time.sleep(6.0)  # what the runs have woken goes to sleep again
        before, began = sum(worker.cpu() for worker in workers), time.monotonic()
        time.sleep(10)
        idle = (sum(worker.cpu() for worker in workers) - before) / (time.monotonic() - began) / len(workers)
        db.pause_workflow(waits.id)
        for number in range(repeats):
            run = waits.submit(str(number))
            began = time.monotonic()
            run.cancel().wait(60)
            queued.append(time.monotonic() - began)
    figures = [Figure("an idle worker's share of a CPU", 100 * idle, "%", 0.5)]
    for name, seen, targets in (
        ("submitted to result, one run of one step, idle", begins, (15.0, 50.0)),
        ("cancel of a queued run, to its receipt's end", queued, (100.0, 100.0)),
        ("cancel of a running run, to its receipt's end", stops, (100.0, 100.0)),
    ):
        found = spread([1e3 * value for value in seen])
        assert found is not None
        figures += [
            Figure(f"{name}, p50", found.p50, "ms", targets[0]),
            Figure(f"{name}, p99", found.p99, "ms", targets[1]),
        ]
    return figures


def _growth(url: str, sizes: tuple[int, ...]) -> list[Figure]:
    """The time of a claim of 20 runs does not depend on how many runs wait, for a worker or for something else."""
    db = open_db(url)
    quick, other = workflows(db)
    figures, waiting = [], 0
    for size in sizes:
        for start in range(waiting, size, 1000):
            inputs = [""] * min(1000, size - start)
            quick.submit_many(inputs)
            other.submit_many(inputs)
            quick.submit_many(inputs, delay=86400.0)
            quick.submit_many(inputs[: len(inputs) // 10], concurrency_key="one")
        waiting = size
        seen = []
        for _ in range(20):
            began = time.monotonic()
            assert len(db.store.workers.claim_batch([quick.id], 20, due=True).runs) == 20
            seen.append(1e3 * (time.monotonic() - began))
        found = spread(seen)
        assert found is not None
        what = f"claim of 20 of {size} runs; {size} of another workflow, {size} for tomorrow, {size // 10} for a key"
        figures.append(Figure(f"{what}, p50", found.p50, "ms"))
    db.close()
    return figures


def measure(*, quick: bool) -> list[Table]:
    """All of it, on both databases."""
    count, repeats = (200, 20) if quick else (3000, 100)
    sizes = (1000, 2000) if quick else (1000, 10_000, 100_000)
    tables = []
    with LocalPostgres(settings={"fsync": "on", "full_page_writes": "on"}) as server:
        table = Table("Submitted runs, Postgres on loopback, fsync on")
        for workers in (1, 2) if quick else (1, 2, 4, 8):
            table.add(*_throughput(server.new_schema(f"throughput_{workers}"), workers, count))
        table.add(*_submitting(server.new_schema("submitting"), repeats, 1000))
        table.add(*_latencies(server.new_schema("latency"), repeats))
        table.add(*_growth(server.new_schema("growth"), sizes))
        tables.append(table.close())
    with tempfile.TemporaryDirectory() as folder:
        table = Table("Submitted runs, SQLite")
        table.add(*_throughput(f"sqlite:///{folder}/throughput.db", 2, count))
        table.add(*_submitting(f"sqlite:///{folder}/submitting.db", repeats, 1000))
        table.add(*_latencies(f"sqlite:///{folder}/latency.db", repeats))
        table.add(*_growth(f"sqlite:///{folder}/growth.db", sizes[:-1]))
        tables.append(table.close())
    return tables
