"""What the tests of databases share: one of each kind, closed at the end, and a log without errors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from postgres_databases import new_postgres

from desist.cancel.registry import registry
from desist.db import BaseDb, InMemoryDb, JsonDb, PostgresDb, SqliteDb

__all__ = ["new_postgres"]

Open = Callable[[], BaseDb]


def _opener(kind: str, folder: Path, new_postgres: Callable[[], str]) -> Open:
    memory = InMemoryDb()
    url = new_postgres() if kind == "postgres" else ""
    kinds: dict[str, Open] = {
        "postgres": lambda: PostgresDb(url),
        "sqlite": lambda: SqliteDb(folder / "runs.db"),
        "json": lambda: JsonDb(folder / "runs"),
        "memory": lambda: memory,
    }
    return kinds[kind]


@pytest.fixture(params=["sqlite", "postgres", "json", "memory"])
def db(request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]) -> Iterator[BaseDb]:
    """A database of each kind."""
    opened = _opener(request.param, tmp_path, new_postgres)()
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgres", "json"])
def on_disk(request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]) -> Iterator[BaseDb]:
    """A database of each kind that outlives its process."""
    opened = _opener(request.param, tmp_path, new_postgres)()
    yield opened
    opened.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqliteDb]:
    opened = SqliteDb(tmp_path / "runs.db")
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
