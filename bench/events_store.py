"""What storing events costs, how much room they take, and how long one takes to a follower in another process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from os import getloadavg
from pathlib import Path
from typing import Any

from bench.clock import median_of
from bench.statistics import spread
from bench.table import Figure, Table
from desist import Step, Workflow
from desist.db import PostgresDb, SqliteDb
from desist.testing import LocalPostgres

__all__ = ["measure"]


def _told(pieces: int) -> Any:
    async def tell(_: Any) -> AsyncIterator[str]:
        for number in range(pieces):
            yield f"word{number % 100} "

    return tell


async def _quick(_: Any) -> str:
    return "done"


def _size(folder: Path, name: str, steps: list[Any], runs: int) -> float:
    """Return bytes that a run adds to the file."""
    db = SqliteDb(folder / f"{name}.db")
    workflow = Workflow("bench", steps=steps, db=db)
    for _ in range(runs):
        workflow.run("go")
    db.flush()
    db.close()
    return (folder / f"{name}.db").stat().st_size / runs


def _costs(folder: Path, quick: bool) -> Table:
    pieces, repeats = (5_000, 3) if quick else (20_000, 7)
    db = SqliteDb(folder / "pieces.db")
    stored = Workflow("bench", steps=[Step("tell", executor=_told(pieces))], db=db)
    plain = Workflow("bench", steps=[Step("tell", executor=_told(pieces))])
    table = Table(f"The event store, SQLite: runs of {pieces:,} pieces of text")

    def with_db() -> None:
        stored.run("go")
        db.flush()

    began = time.perf_counter()
    with_db()
    waited = time.perf_counter() - began
    cpu = median_of(with_db, repeats) / pieces * 1e6
    streamed = median_of(lambda: list(plain.run("go", stream=True)), repeats) / pieces * 1e6
    table.add(
        Figure("events told and on the disk", pieces / waited, "/s"),
        Figure("CPU for each event, all threads", cpu, "us"),
        Figure("the same streamed and not stored", streamed, "us"),
    )
    db.close()
    few = 20 if quick else 100
    empty = _size(folder, "empty", [Step("one", executor=_quick)], few)
    text = _size(folder, "text", [Step("tell", executor=_told(1000))], few)
    many = _size(folder, "many", [Step(f"s{number}", executor=_quick) for number in range(101)], few)
    table.add(
        Figure("a run of one step, in the file", empty / 1000, "kB"),
        Figure("each piece of text more", (text - empty) / 1000, "bytes"),
        Figure("each step more", (many - empty) / 100, "bytes"),
    )
    return table.close()


def _latency(kind: str, place: str, quick: bool) -> Table:
    """Follow a run of another process that says what time it is."""
    count = 200 if quick else 1000
    db = PostgresDb(place) if "://" in place else SqliteDb(place)
    command = [sys.executable, "-m", "bench.events_worker", place, str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        run_id = other.stdout.readline().strip()
        seen = list[float]()
        cpu = time.process_time()
        for event in db.follow(run_id):
            now = time.time()
            if event.is_content:
                seen.append(1e3 * (now - float(event.content)))
            elif event.is_terminal:
                last = 1e3 * (now - float(other.stdout.readline()))
        cpu = time.process_time() - cpu
    db.close()
    found = spread(seen)
    assert found is not None
    table = Table(
        f"G6: a follower in another process, {kind}: {count} events, one every 5 ms; load {getloadavg()[0]:.1f}"
    )
    table.add(
        Figure("from the run to the follower, p50", found.p50, "ms", 5.0),
        Figure("from the run to the follower, p99", found.p99, "ms", 20.0),
        Figure("the end, after its own reader had it", last, "ms"),
        Figure("CPU of the follower's process for each event", cpu / count * 1e6, "us"),
    )
    return table.close()


def measure(*, quick: bool) -> list[Table]:
    """Costs, room, latency."""
    with tempfile.TemporaryDirectory() as name:
        found = [_costs(Path(name), quick), _latency("SQLite", f"{name}/latency.db", quick)]
    if LocalPostgres.binaries() is None:
        print("Postgres isn't installed here: its part of `events_store` is left out")
        return found
    with LocalPostgres(settings={"fsync": "on", "full_page_writes": "on"}) as server:
        return [*found, _latency("Postgres with fsync", server.new_schema("latency"), quick)]
