"""Databases of each kind, and other processes on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from database_kinds import open_database
from database_worker import PROGRAM, Worker

from desist.db import BaseDb, SqliteDb


@pytest.fixture(params=["sqlite", "postgres", "json"])
def on_disk(request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]) -> Iterator[BaseDb]:
    """A database of each kind that outlives its process."""
    opened = open_database(request.param, tmp_path, new_postgres)
    yield opened
    opened.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqliteDb]:
    opened = SqliteDb(tmp_path / "runs.db")
    yield opened
    opened.close()


@pytest.fixture
def workers() -> Iterator[Callable[..., Worker]]:
    """Start other processes on a database; end them after the test."""
    started: list[Worker] = []

    def start(place: str, program: Path = PROGRAM) -> Worker:
        started.append(Worker(place, program=program))
        return started[-1]

    yield start
    for one in started:
        one.close()
