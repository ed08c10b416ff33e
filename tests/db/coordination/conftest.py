"""What the tests of several processes on one database share: workers that do as they are told, and say so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from journal_process import Worker
from postgres_databases import new_postgres

from desist.cancel.registry import registry
from desist.db import PostgresDb, SqliteDb
from journal_worker import open_db

__all__ = ["new_postgres"]


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]) -> str:
    """Where the tables are, in each kind of database: a file, or a URL."""
    return new_postgres() if request.param == "postgres" else str(tmp_path / "runs.db")


@pytest.fixture
def worker(place: str) -> Iterator[Callable[[], Worker]]:
    """Starts workers; ends them."""
    started: list[Worker] = []

    def start() -> Worker:
        started.append(Worker(place))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def db(place: str) -> Iterator[SqliteDb | PostgresDb]:
    opened = open_db(place)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def no_logged_errors(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test may leave an error in the log, unless it says so, or a live run."""
    caplog.set_level(logging.INFO)
    yield
    if "loud" not in request.keywords:
        bad = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR or record.exc_info]
        assert not bad, [record.getMessage() for record in bad]
    assert registry.live() == []
