"""Databases that several processes share, and workers on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from database_worker import Worker
from database_worker_program import open_db

from desist.db import PostgresDb, SqliteDb


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]) -> str:
    """Where the tables are, in each kind of database: a file, or a URL."""
    return new_postgres() if request.param == "postgres" else str(tmp_path / "runs.db")


@pytest.fixture
def db(place: str) -> Iterator[SqliteDb | PostgresDb]:
    opened = open_db(place)
    yield opened
    opened.close()


@pytest.fixture
def worker(place: str, workers: Callable[..., Worker]) -> Callable[[], Worker]:
    return lambda: workers(place)
