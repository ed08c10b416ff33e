"""Kills a busy worker at random moments, and counts what is wrong then: `python -m bench.kills --db sqlite`.

Right after each kill the tables are read past desist: a run that has a terminal event and no end could never end. In
the end, when every run that may go on has gone on: none is open, none was resumed after its terminal event, and the
record of each says what its terminal event says. Ends with 1 if anything of that isn't so.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.table import Figure, Table
from desist.db import PostgresDb, SqliteDb
from desist.exceptions import StoreError
from desist.run.cancel import cancel
from desist.testing import LocalPostgres

__all__ = ["main"]

_OPEN = "status NOT IN ('CANCELLED', 'COMPLETED', 'ERROR', 'REGENERATED')"
_TOLD = "EXISTS (SELECT 1 FROM desist_events e WHERE e.run_id = r.run_id AND e.terminal = 1)"
STUCK = f"SELECT run_id FROM desist_runs r WHERE {_OPEN} AND {_TOLD}"
STILL_OPEN = f"SELECT count(*) FROM desist_runs WHERE {_OPEN}"
RESUMED = (
    "SELECT count(DISTINCT e.run_id) FROM desist_events e JOIN desist_events t ON t.run_id = e.run_id"
    " WHERE t.terminal = 1 AND e.first_event > t.first_event"
)
ENDS = "SELECT r.status, e.body FROM desist_runs r JOIN desist_events e ON e.run_id = r.run_id WHERE e.terminal = 1"
ALL = "SELECT count(*) FROM desist_runs"


class Place:
    """A database, read past desist."""

    def __init__(self, where: str) -> None:
        self.where = where

    def ask(self, query: str) -> list[Any]:
        """Return the rows of a query."""
        if "://" not in self.where:
            connection = sqlite3.connect(self.where, timeout=30)
            try:
                return connection.execute(query).fetchall()
            finally:
                connection.close()
        import psycopg

        with psycopg.connect(self.where) as server:
            return server.execute(query.encode()).fetchall()

    def count(self, query: str) -> int:
        """Return the only number that a query returns."""
        return int(self.ask(query)[0][0])


class Worker:
    """The process that is killed, and the runs that it has begun, some of which are cancelled from here."""

    def __init__(self, place: Place, name: str, dice: random.Random) -> None:
        command = [sys.executable, "-m", "bench.kills_worker", place.where, name, str(dice.randrange(2**31))]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._begun = threading.Event()
        self.runs: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._begun.wait(60):
            raise RuntimeError("the worker doesn't begin")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.runs.append(line.strip())
            self._begun.set()

    def kill(self) -> None:
        """End it as it stands."""
        self._process.kill()
        self._process.wait(30)
        self._reader.join(30)
        assert self._process.stdout is not None
        self._process.stdout.close()


def _cancel_some(db: SqliteDb | PostgresDb, worker: Worker, dice: random.Random, until: float) -> None:
    """Cancel runs of the worker from this process, as long as it lives."""
    while time.monotonic() < until:
        try:
            cancel(dice.choice(worker.runs[-40:]), db=db)
        except StoreError as error:
            print(f"! {error}", file=sys.stderr)
        time.sleep(dice.random() * 0.1)


def _kill_often(place: Place, kills: int, dice: random.Random) -> int:
    """Kill one worker after the other; return how many runs were left with a terminal event and no end."""
    db: SqliteDb | PostgresDb = PostgresDb(place.where) if "://" in place.where else SqliteDb(place.where)
    stuck: set[str] = set()
    for number in range(kills):
        worker = Worker(place, f"w{number}", dice)
        _cancel_some(db, worker, dice, time.monotonic() + 0.1 + dice.random())
        worker.kill()
        stuck.update(run_id for (run_id,) in place.ask(STUCK))
        if number % 10 == 9:
            print(f"{number + 1} kills, {place.count(ALL)} runs, {len(stuck)} stuck", file=sys.stderr, flush=True)
    db.close()
    return len(stuck)


def _disagreeing(place: Place) -> int:
    """Return how many records say something else than the terminal event."""
    return sum(json.loads(body)[0].get("status") != status for status, body in place.ask(ENDS))


def measure(place: Place, name: str, kills: int, seed: int) -> Table:
    """Kill, then finish, then count."""
    stuck = _kill_often(place, kills, random.Random(seed))
    command = [sys.executable, "-m", "bench.kills_worker", place.where, "last", "0", "--finish"]
    subprocess.run(command, check=True, timeout=300, stderr=subprocess.DEVNULL)
    table = Table(f"{kills} kills over {name}, 40 runs at a time, {place.count(ALL):,} runs in all; seed {seed}")
    table.add(
        Figure("a terminal event and no end, right after a kill", stuck, "runs", 0),
        Figure("without an end when all that could go on has", place.count(STILL_OPEN), "runs", 0),
        Figure("resumed after their terminal event", place.count(RESUMED), "runs", 0),
        Figure("whose record says something else than their terminal event", _disagreeing(place), "runs", 0),
    )
    return table.close()


@contextmanager
def _places(kind: str) -> Iterator[Place]:
    if kind == "postgres":
        with LocalPostgres() as server:
            yield Place(server.new_schema("kills"))
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Place(str(Path(folder) / "runs.db"))


def main() -> int:
    """Read the command line; print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.kills", description=__doc__)
    parser.add_argument("--db", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    logging.getLogger("desist").addHandler(logging.NullHandler())  # each run of a killed worker is told there
    with _places(chosen.db) as place:
        table = measure(place, chosen.db, chosen.kills, chosen.seed)
    print(table.text(), flush=True)
    return 0 if all(figure.ok for figure in table.figures) else 1


if __name__ == "__main__":
    sys.exit(main())
