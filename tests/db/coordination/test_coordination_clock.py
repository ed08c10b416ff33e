"""A process whose clock is wrong looks at runs of others on its machine: those that work go on."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from database_worker import Worker

from desist.db import SqliteDb
from desist.run.events.base import RunStatus


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "runs.db")


def test_a_clock_that_is_ahead_ends_nobody_s_run(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that is over by a wrong clock doesn't count while its process is seen at work on this machine."""
    worker = Worker(file)
    worker.start("wait", "r")
    real: Callable[[], float] = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 1000.0)  # only in this process
    db = SqliteDb(file)
    assert db.end_lost_runs() == []
    assert db.get_run("r").status is RunStatus.running
    worker.tell("open", "r")
    assert worker.hear("end", "r")["status"] == "COMPLETED"
    db.close()
    worker.close()


def test_one_that_is_stopped_is_given_up_when_its_lease_is_over(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was stopped isn't at work: its lease counts, as on any machine."""
    worker = Worker(file)
    worker.start("wait", "r")
    worker.signal(signal.SIGSTOP)
    worker.wait_stopped()
    real: Callable[[], float] = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 1000.0)
    db: Any = SqliteDb(file)
    db.end_lost_runs()
    assert db.get_run("r").status is RunStatus.error
    db.close()
    worker.close()
