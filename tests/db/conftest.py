"""What the tests of databases share: one of each kind, closed at the end, and a log without errors."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from desist.cancel.registry import registry
from desist.db import BaseDb, InMemoryDb, JsonDb, SqliteDb

Open = Callable[[], BaseDb]


def _opener(kind: str, folder: Path) -> Open:
    memory = InMemoryDb()
    kinds: dict[str, Open] = {
        "sqlite": lambda: SqliteDb(folder / "runs.db"),
        "json": lambda: JsonDb(folder / "runs"),
        "memory": lambda: memory,
    }
    return kinds[kind]


@pytest.fixture(params=["sqlite", "json", "memory"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BaseDb]:
    """A database of each kind."""
    opened = _opener(request.param, tmp_path)()
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "json"])
def on_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BaseDb]:
    """A database of each kind that outlives its process."""
    opened = _opener(request.param, tmp_path)()
    yield opened
    opened.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqliteDb]:
    opened = SqliteDb(tmp_path / "runs.db")
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def quiet(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test may leave an error in the log, unless it says so, or a live run."""
    caplog.set_level(logging.INFO)
    yield
    if "loud" not in request.keywords:
        bad = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR or record.exc_info]
        assert not bad, [record.getMessage() for record in bad]
    assert registry.live() == []
