"""A database for each test, and workers on it that obey commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_databases import open_db
from engine_process import WorkerProcess

from desist.engine.config import has_sqlite_queue

pytest.importorskip("dbos", reason="the extra `scale` isn't installed")

#: How workers are there, and on what.
FLEETS = ["command-postgres", "embedded-sqlite"]


@pytest.fixture(params=FLEETS)
def fleet(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(fleet: str, tmp_path: Path, new_postgres: Callable[[], str]) -> str:
    if fleet.endswith("postgres"):
        return new_postgres()
    if not has_sqlite_queue():
        pytest.skip("DBOS needs a newer SQLite on this version of Python")
    return f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture
def db(url: str) -> Iterator[Any]:
    opened = open_db(url)
    yield opened
    opened.close()


@pytest.fixture
def worker(fleet: str, url: str) -> Iterator[Callable[..., WorkerProcess]]:
    """Starts workers that have these workflows; ends them."""
    started: list[WorkerProcess] = []

    def start(*names: str, **how: Any) -> WorkerProcess:
        started.append(WorkerProcess(fleet.partition("-")[0], url, *names, **how))
        return started[-1]

    yield start
    for one in started:
        one.close()
