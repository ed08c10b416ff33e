"""Submitted runs on two workers over Postgres: how many a second, what that costs, how soon one is stopped."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from bench.scale_worker import workflows
from bench.statistics import spread
from bench.table import Figure, Table
from desist.db import PostgresDb
from desist.testing import LocalPostgres

__all__ = ["measure"]

#: How many runs a worker drives at a time.
CONCURRENCY = 10


class _Worker:
    """A process that works."""

    def __init__(self, url: str, mode: str) -> None:
        command = [sys.executable, "-m", "bench.scale_worker", url, mode, str(CONCURRENCY)]
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
def _fleet(server: LocalPostgres, name: str, mode: str = "dbos") -> Iterator[tuple[Any, list[_Worker]]]:
    url = server.new_schema(name)
    db = PostgresDb(url)
    workers = [_Worker(url, mode) for _ in range(2)]
    try:
        yield db, workers
    finally:
        for worker in workers:
            worker.close()
        db.close()


def _throughput(server: LocalPostgres, mode: str, count: int) -> list[Figure]:
    what = f"{count} runs of one step, 2 workers, {'DBOS' if mode == 'dbos' else 'our tables alone'}"
    with _fleet(server, f"throughput_{mode}", mode) as (db, workers):
        quick = workflows(db)[0]
        quick.submit("0").result(60)
        before, began = sum(worker.cpu() for worker in workers), time.monotonic()
        submitted = [quick.submit(str(number)) for number in range(count)]
        given = time.monotonic() - began
        for run in submitted:
            run.result(300)
        took, cpu = time.monotonic() - began, sum(worker.cpu() for worker in workers) - before
    figures = [Figure(f"{what}: from the first submit to the last end", count / took, "runs/s")]
    figures.append(Figure(f"{what}: CPU of the workers a run", 1e3 * cpu / count, "ms"))
    if mode == "dbos":
        figures.insert(0, Figure("submit: durable", 1e3 * given / count, "ms"))
    return figures


def _latencies(server: LocalPostgres, repeats: int) -> list[Figure]:
    begins, stops, queued, idle = list[float](), list[float](), list[float](), 0.0
    with _fleet(server, "latency") as (db, workers):
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
            receipt = run.cancel()
            receipt.wait(60)
            stops.append(time.monotonic() - began)
        before, began = sum(worker.cpu() for worker in workers), time.monotonic()
        time.sleep(3)
        idle = (sum(worker.cpu() for worker in workers) - before) / (time.monotonic() - began) / len(workers)
    db = PostgresDb(server.new_schema("queued"))
    for number in range(repeats):
        run = workflows(db)[1].submit(str(number))
        began = time.monotonic()
        run.cancel().wait(60)
        queued.append(time.monotonic() - began)
    db.close()
    figures = [Figure("an idle worker's share of a CPU", 100 * idle, "%")]
    for name, seen, target in (
        ("submitted to ended, one run of one step", begins, None),
        ("cancel of a queued run, to its receipt's end", queued, 100.0),
        ("cancel of a running run, to its receipt's end", stops, 100.0),
    ):
        found = spread([1e3 * value for value in seen])
        assert found is not None
        figures += [Figure(f"{name}, p50", found.p50, "ms"), Figure(f"{name}, p99", found.p99, "ms", target)]
    return figures


def measure(*, quick: bool) -> list[Table]:
    """Throughput, with DBOS and without; latencies."""
    table = Table("Submitted runs on two workers, Postgres on loopback (fsync off)")
    server = LocalPostgres()
    server.start()
    try:
        for mode in ("dbos", "alone"):
            table.add(*_throughput(server, mode, 100 if quick else 1000))
        table.add(*_latencies(server, 20 if quick else 100))
    finally:
        server.close()
    return [table.close()]
