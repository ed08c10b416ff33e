"""What the record of a run costs, and how long a cancel takes that comes from another process (C9)."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.statistics import spread
from bench.store import _each
from bench.table import Figure, Table
from desist import Step, Workflow
from desist.db import PostgresDb, SqliteDb
from desist.db.backends.postgres import PostgresBackend
from desist.db.backends.sqlite import SqliteBackend
from desist.db.process.postgres_target import PostgresTarget
from desist.db.records.codec import encode_part
from desist.db.records.rows import row_of
from desist.db.tables.sql import SqlTables
from desist.db.tables.sql_transaction import TableNames
from desist.db.writer import WriteJob
from desist.run.cancel import cancel
from desist.run.events.base import RunStatus
from desist.run.outputs.agent import RunOutput
from desist.run.storage.values import StoredRun
from desist.testing import LocalPostgres, LoopbackProvider, Reply

__all__ = ["measure"]


def _run(number: int) -> StoredRun:
    output = RunOutput(run_id=f"r{number}", content="done")
    return StoredRun(
        run_id=f"r{number}", kind="agent", status=RunStatus.pending, output=output, root_run_id=f"r{number}"
    )


Opened = SqliteBackend | PostgresBackend


def _open(place: str) -> SqliteDb | PostgresDb:
    return PostgresDb(place) if "://" in place else SqliteDb(place)


def _tables(place: str) -> Opened:
    if "://" in place:
        return PostgresBackend(PostgresTarget(place), None, TableNames(), 10.0)
    return SqliteBackend(Path(place), TableNames(), 10.0)


def _commits(file: Opened, work: Callable[[SqlTables, int], Any], count: int, *, durable: bool) -> float:
    """Return microseconds for a transaction of one fenced statement: the median."""
    seen = []
    for number in range(count):
        job = WriteJob(lambda tables, number=number: work(tables, number), durable=durable)
        began = time.perf_counter()
        file.write([job])
        seen.append(time.perf_counter() - began)
    return sorted(seen)[len(seen) // 2] * 1e6


def _costs(name: str, place: str, *, quick: bool) -> Table:
    file = _tables(place)
    count = 100 if quick else 500
    part = encode_part("r0", "message", "hello", None)
    table = Table(f"The journal over {name}: a commit of one fenced statement, and a step")
    claim: Callable[[SqlTables, int], Any] = lambda t, n: t.runs.put(row_of(t, _run(n), "bench", None, 1))  # noqa: E731
    ended = StoredRun(
        run_id="r1", kind="agent", status=RunStatus.completed, output=RunOutput(content="x"), root_run_id="r1"
    )
    table.add(
        Figure("claim (durable)", _commits(file, claim, count, durable=True), "us"),
        Figure(
            "request (durable)",
            _commits(file, lambda t, n: t.runs.set_cancel(f"r{n}", 1, "{}"), count, durable=True),
            "us",
        ),
        Figure("part", _commits(file, lambda t, n: t.parts.add(part, 1), count, durable=False), "us"),
        Figure(
            "a stale epoch is refused",
            _commits(file, lambda t, n: t.runs.end(row_of(t, ended, "bench", None, 9)), count, durable=False),
            "us",
        ),
    )
    file.detach()()
    file.close()
    db = _open(place)
    workflow = Workflow("bench", steps=[Step("one", executor=lambda step_input: "x")], db=db)
    waits = []
    for _ in range(20 if quick else 200):
        began = time.perf_counter()
        workflow.run("go", session_id="s")
        waits.append(time.perf_counter() - began)
    table.add(
        Figure("a run of one step, from start to stored end: the median", sorted(waits)[len(waits) // 2] * 1e3, "ms"),
        Figure(f"a step of 1,000 with {name}, CPU of all threads here", _each(db, 1000, 1, 3), "us"),
        Figure("the same without a database", _each(None, 1000, 1, 3), "us"),
    )
    db.close()
    return table.close()


class _Other:
    """The process that works."""

    def __init__(self, place: str, url: str) -> None:
        command = [sys.executable, "-m", "bench.journal_worker", place, url]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, run_id: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(run_id + "\n")
        self._process.stdin.flush()
        self.heard("begun", run_id)

    def heard(self, what: str, run_id: str) -> list[str]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            words = line.split()
            if words[:2] == [what, run_id]:
                return words
        raise RuntimeError("the other process has ended")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def _cancels(kind: str, place: str, repeats: int, beside: int) -> Table:
    """Cancel runs of another process that stream, with so many others streaming beside them."""
    db = _open(place)
    table = Table(f"C9: cancelled from another process over {kind}, {beside} other runs streaming; {repeats} cancels")
    accepted, closed, told, settled = list[float](), list[float](), list[float](), list[float]()
    with LoopbackProvider(Reply(tokens=1_000_000, token_interval=0.01), process=True) as provider:
        other = _Other(place, provider.base_url)
        for number in range(beside):
            other.start(f"beside{number}")
        for number in range(repeats):
            other.start(f"run{number}")
            exchange = provider.wait_request(beside + number + 1)
            began = time.monotonic()
            receipt = cancel(f"run{number}", db=db)
            accepted.append(time.monotonic() - began)
            receipt.wait(30)
            settled.append(time.monotonic() - began)
            told.append(float(other.heard("ended", f"run{number}")[2]) - began)
            closed.append(exchange.wait_closed(30) - began)
        other.close()
    db.close()
    for name, seen, target in (
        ("accepted: durable, and the receipt is here", accepted, None),
        ("the provider saw the connection end", closed, 100.0),
        ("the terminal event, at its reader", told, 100.0),
        ("receipt.wait() has returned, here", settled, None),
    ):
        found = spread([1e3 * value for value in seen])
        assert found is not None
        table.add(Figure(f"{name}, p50", found.p50, "ms"), Figure(f"{name}, p99", found.p99, "ms", target))
    return table.close()


def _growth(url: str, runs: int) -> Table:
    """How much a run of three steps adds to a Postgres: tables and indexes, once dead rows are cleaned up."""
    db = PostgresDb(url)
    workflow = Workflow("bench", steps=[Step(f"s{n}", executor=lambda step_input: "done") for n in range(3)], db=db)
    before = _size(url)
    for number in range(runs):
        workflow.run("go", session_id=f"s{number % 10}")
    db.flush()
    db.close()
    table = Table("Growth of the database, by runs of three steps")
    table.add(Figure("a run, vacuumed", (_size(url) - before) / runs / 1e3, "kB"))
    return table.close()


def _size(url: str) -> int:
    """Return the bytes of all tables of ours, after a vacuum."""
    import psycopg

    query = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    with psycopg.connect(url, autocommit=True) as connection:
        names = [row[0] for row in connection.execute(query).fetchall()]
        for name in names:
            connection.execute(f"VACUUM FULL {name}".encode())
        sizes = [connection.execute("SELECT pg_total_relation_size(%s)", (name,)).fetchone() for name in names]
    return sum(int(row[0]) for row in sizes if row is not None)


def _of(name: str, new: Callable[[str], str], *, quick: bool) -> list[Table]:
    repeats = 20 if quick else 150
    costs = _costs(name, new("costs"), quick=quick)
    return [costs, *(_cancels(name, new(f"beside{beside}"), repeats, beside) for beside in (0, 32))]


def measure(*, quick: bool) -> list[Table]:
    """Commits, steps, cancels: over a file, and over a Postgres that waits for its disk, if one is installed."""
    with tempfile.TemporaryDirectory() as folder:
        found = _of("SQLite", lambda what: str(Path(folder) / f"{what}.db"), quick=quick)
    if LocalPostgres.binaries() is None:
        print("Postgres isn't installed here: its part of `journal` is left out")
        return found
    with LocalPostgres(settings={"fsync": "on", "full_page_writes": "on"}) as server:
        found += _of("Postgres", server.new_schema, quick=quick)
        return [*found, _growth(server.new_schema("growth"), 50 if quick else 500)]
