"""A process is killed between a flush of a run's events and the end of the run: nothing of the end is stored."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from coordination_stuck import sql
from database_worker_program import open_db

from desist.run.events.base import RunStatus

PROGRAM = Path(__file__).with_name("coordination_between.py")


@pytest.mark.parametrize("how", ["by itself", "cancelled"])
def test_a_kill_before_the_end_is_stored(place: str, how: str) -> None:
    """What the run had told is there, its terminal event isn't; it gets another end, which its followers hear."""
    killed = subprocess.run([sys.executable, str(PROGRAM), place, how], capture_output=True, timeout=50)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    told = sql(place, ("SELECT count(*), coalesce(sum(terminal), 0) FROM desist_events", ()))[0]
    assert told[0] > 0 and told[1] == 0
    db = open_db(place)
    last = [event for event in db.follow("r") if event.is_terminal]
    assert [event.status for event in last] == [RunStatus.error]
    assert db.get_run("r").status is RunStatus.error
    db.close()
