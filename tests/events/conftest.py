"""What the tests of stored events share: workers in other processes, and a quiet log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "journal"))

from journal_process import Worker

from desist.cancel.registry import registry
from desist.db import SqliteDb


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def worker(file: Path) -> Iterator[Callable[[], Worker]]:
    """Starts workers; ends them."""
    started: list[Worker] = []

    def start() -> Worker:
        started.append(Worker(file, Path(__file__).with_name("events_worker.py")))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def db(file: Path) -> Iterator[SqliteDb]:
    opened = SqliteDb(file, timeout=20)
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
