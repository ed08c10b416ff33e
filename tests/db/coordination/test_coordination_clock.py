"""A process whose clock is wrong looks at runs of others on its machine: those that work go on."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from database_worker import Worker

from desist import Agent, Step, Workflow
from desist.db import SqliteDb
from desist.db.process.lease_observer import LeaseObserver
from desist.run.events.base import RunStatus
from desist.testing import Gate, ScriptedModel


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


#: What is seen of a lease: seconds of the observer's monotonic clock, the lease, the wall clock; whether it is over.
SEEN = {
    "renewed in time": [(0, 15, 0, False), (3, 18, 3, False), (6, 21, 6, False)],
    "a step forward between two heartbeats": [(0, 15, 0, False), (2.9, 15, 3602, False), (3.1, 3618, 3603, False)],
    "a step forward before the first look": [(0, 15, 3600, False), (2, 15, 3602, False), (3, 3618, 3603, False)],
    "a step back": [(0, 3615, 3600, False), (3, 18, 3, False), (6, 21, 6, False)],
    "steps both ways": [(0, 15, 3600, False), (3, 18, 3, False), (4, 18, 7200, False), (6, 7215, 7200, False)],
    "a late heartbeat": [(0, 15, 0, False), (14, 15, 14, False), (14.5, 29.5, 14.5, False)],
    "frozen, seen from the beginning": [(0, 15, 0, False), (14.9, 15, 14.9, False), (15.1, 15, 15.1, True)],
    "frozen long ago": [(0, 15, 3600, False), (5.9, 15, 3605.9, False), (6.1, 15, 3606.1, True)],
    "ended by a process that knows": [(0, 0, 1, True)],
}


@pytest.mark.parametrize("name", SEEN)
def test_leases_are_judged_by_the_monotonic_clock(name: str) -> None:
    """A lease is over if it looks over and isn't renewed for longer than heartbeats take; no step changes that."""
    now = 0.0
    observer = LeaseObserver(lambda: now)
    for now, until, wall, over in SEEN[name]:
        assert observer.is_over("a", until, wall) is over, now
        observer.is_over("b", until, wall - 3600)  # another process is judged by its own lease


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_heartbeats_go_on_after_a_step(step: float, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner's own clock steps while its run lives: it renews its lease by the new time, and the run completes."""
    db, gate = SqliteDb(file), Gate()
    workflow = Workflow("W", steps=[Step("s", agent=Agent(ScriptedModel([["a", gate]])))], db=db)
    with workflow.run("x", stream=True) as events:
        gate.wait_reached()
        db.flush()
        before = lease(file)
        real: Callable[[], float] = time.time
        monkeypatch.setattr(time, "time", lambda: real() + step)
        deadline = time.monotonic() + 30
        while abs(lease(file) - before - step) > 60:  # a heartbeat may come just before the step
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert SqliteDb(file).get_run(events.run_id).status is RunStatus.running
        gate.open()
        assert list(events)[-1].event == "WorkflowCompleted"
    db.close()


def lease(file: str) -> float:
    """Return until when this process is believed to live, as its record says."""
    with closing(sqlite3.connect(file)) as connection:
        [[until]] = connection.execute("SELECT until FROM desist_owners").fetchall()
    return float(until)
