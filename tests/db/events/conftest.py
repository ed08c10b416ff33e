"""Databases, and workers in other processes that store events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from database_worker import Worker
from raw_tables import Db, open_db


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Modules that name PLACES run over each of them, others over SQLite."""
    if "kind_of_place" in metafunc.fixturenames:
        metafunc.parametrize("kind_of_place", getattr(metafunc.module, "PLACES", ["sqlite"]))


@pytest.fixture
def place(kind_of_place: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Where the tables are: a file, or a URL."""
    if kind_of_place == "sqlite":
        return str(tmp_path / "runs.db")
    make: Callable[[], str] = request.getfixturevalue("new_postgres")
    return make()


@pytest.fixture
def db(place: str) -> Iterator[Db]:
    opened = open_db(place)
    yield opened
    opened.close()


@pytest.fixture
def worker(place: str, workers: Callable[..., Worker]) -> Callable[[], Worker]:
    return lambda: workers(place, Path(__file__).with_name("events_worker.py"))
