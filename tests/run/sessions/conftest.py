"""What the tests of sessions share: stores of each kind, and a log without errors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from postgres_databases import new_postgres

from desist.cancel.registry import registry
from desist.db import BaseDb, InMemoryDb, JsonDb, PostgresDb, SqliteDb

__all__ = ["new_postgres"]


@pytest.fixture(params=["sqlite", "postgres", "json", "memory"])
def db(request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]) -> Iterator[BaseDb]:
    """A database of each kind."""
    kinds = {
        "sqlite": lambda: SqliteDb(tmp_path / "runs.db"),
        "postgres": lambda: PostgresDb(new_postgres()),
        "json": lambda: JsonDb(tmp_path),
        "memory": InMemoryDb,
    }
    opened: BaseDb = kinds[request.param]()
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def no_logged_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test may leave an error in the log, or a live run."""
    caplog.set_level(logging.INFO)
    yield
    bad = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR or record.exc_info]
    assert not bad, [record.getMessage() for record in bad]
    assert registry.live() == []
