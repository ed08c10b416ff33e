"""Databases for the tests of pauses, and waiting for what happens by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from database_kinds import open_database


@pytest.fixture(params=["none", "memory", "json", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]) -> Iterator[Any]:
    """No database, and one of each kind."""
    if request.param == "none":
        yield None
        return
    db = open_database(request.param, tmp_path, new_postgres)
    yield db
    db.close()


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Wait until a condition holds; fail after a long time."""

    def wait(condition: Callable[[], object]) -> None:
        give_up = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < give_up, "it did not happen"
            time.sleep(0.01)

    return wait
