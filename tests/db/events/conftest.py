"""What the tests of stored events share: databases, workers in other processes, and a quiet log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from journal_process import Worker
from postgres_databases import new_postgres
from raw_tables import Db, open_db

from desist.cancel.registry import registry

__all__ = ["new_postgres"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Modules that name PLACES run over each of them, others over SQLite."""
    if "kind_of_place" in metafunc.fixturenames:
        metafunc.parametrize("kind_of_place", getattr(metafunc.module, "PLACES", ["sqlite"]))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def place(kind_of_place: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Where the tables are: a file, or a URL."""
    if kind_of_place == "sqlite":
        return str(tmp_path / "runs.db")
    make: Callable[[], str] = request.getfixturevalue("new_postgres")
    return make()


@pytest.fixture
def worker(place: str) -> Iterator[Callable[[], Worker]]:
    """Starts workers; ends them."""
    started: list[Worker] = []

    def start() -> Worker:
        started.append(Worker(place, program=Path(__file__).with_name("events_worker.py")))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def db(place: str) -> Iterator[Db]:
    opened = open_db(place)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def no_logged_errors(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    """No test may leave an error in the log, unless it says so, or a live run."""
    caplog.set_level(logging.INFO)
    yield
    if "loud" not in request.keywords:
        bad = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR or record.exc_info]
        assert not bad, [record.getMessage() for record in bad]
    assert registry.live() == []
