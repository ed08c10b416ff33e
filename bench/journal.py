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
from desist.db import SqliteDb
from desist.db.codec import encode_part
from desist.db.rows import row_of
from desist.db.sql_tables import Names, SqlTables
from desist.db.sqlite_file import SqliteFile
from desist.db.writer import Job
from desist.run.agent_output import RunOutput
from desist.run.base import RunStatus
from desist.run.cancel import cancel
from desist.run.stored import StoredRun
from desist.testing import LoopbackProvider, Reply

__all__ = ["measure"]


def _run(number: int) -> StoredRun:
    output = RunOutput(run_id=f"r{number}", content="done")
    return StoredRun(
        run_id=f"r{number}", kind="agent", status=RunStatus.pending, output=output, root_run_id=f"r{number}"
    )


def _commits(file: SqliteFile, work: Callable[[SqlTables, int], Any], count: int, *, durable: bool) -> float:
    """Return microseconds for a transaction of one fenced statement: the median."""
    seen = []
    for number in range(count):
        job = Job(lambda tables, number=number: work(tables, number), durable=durable)
        began = time.perf_counter()
        file.write([job])
        seen.append(time.perf_counter() - began)
    return sorted(seen)[len(seen) // 2] * 1e6


def _costs(folder: Path, quick: bool) -> Table:
    file = SqliteFile(folder / "commits.db", Names(), 10.0)
    count = 100 if quick else 500
    part = encode_part("r0", "message", "hello", None)
    table = Table("The journal: a commit of one fenced statement, and a step")
    claim: Callable[[SqlTables, int], Any] = lambda t, n: t.put_run(row_of(t, _run(n), "bench", None, 1))  # noqa: E731
    ended = StoredRun(
        run_id="r1", kind="agent", status=RunStatus.completed, output=RunOutput(content="x"), root_run_id="r1"
    )
    table.add(
        Figure("claim (FULL)", _commits(file, claim, count, durable=True), "us"),
        Figure(
            "request (FULL)", _commits(file, lambda t, n: t.set_cancel(f"r{n}", 1, "{}"), count, durable=True), "us"
        ),
        Figure("part (NORMAL)", _commits(file, lambda t, n: t.add_part(part, 1), count, durable=False), "us"),
        Figure(
            "a stale epoch is refused (NORMAL)",
            _commits(file, lambda t, n: t.end_run(row_of(t, ended, "bench", None, 9)), count, durable=False),
            "us",
        ),
    )
    file.detach()()
    file.close()
    db = SqliteDb(folder / "steps.db")
    table.add(
        Figure("a step of 1,000 with SqliteDb, CPU of all threads", _each(db, 1000, 1, 3), "us"),
        Figure("the same without a database", _each(None, 1000, 1, 3), "us"),
    )
    db.close()
    return table.close()


class _Other:
    """The process that works."""

    def __init__(self, file: Path, url: str) -> None:
        command = [sys.executable, "-m", "bench.journal_worker", str(file), url]
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


def _cancels(folder: Path, repeats: int, beside: int) -> Table:
    """Cancel runs of another process that stream, with so many others streaming beside them."""
    db = SqliteDb(folder / f"cancel{beside}.db")
    table = Table(f"C9: cancelled from another process over SQLite, {beside} other runs streaming; {repeats} cancels")
    accepted, closed, told, settled = list[float](), list[float](), list[float](), list[float]()
    with LoopbackProvider(Reply(tokens=1_000_000, token_interval=0.01), process=True) as provider:
        other = _Other(folder / f"cancel{beside}.db", provider.base_url)
        for number in range(beside):
            other.start(f"beside{number}")
        for number in range(repeats):
            other.start(f"run{number}")
            exchange = provider.exchanges[-1]
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


def measure(*, quick: bool) -> list[Table]:
    """Commits, steps, cancels."""
    with tempfile.TemporaryDirectory() as name:
        folder, repeats = Path(name), 20 if quick else 150
        return [_costs(folder, quick), _cancels(folder, repeats, 0), _cancels(folder, repeats, 32)]
