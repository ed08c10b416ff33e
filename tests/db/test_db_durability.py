"""`Workflow(durability=...)`: what is stored of a run while it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from desist import Agent, Step, Workflow
from desist.db import SqliteDb
from desist.exceptions import ConfigurationError
from desist.run.events.base import RunStatus
from desist.run.storage.values import DURABILITIES, Durability
from desist.testing import Gate, ScriptedModel

S = RunStatus


def path_of(db: SqliteDb) -> Path:
    path: Path = db.store.backend.path  # type: ignore[attr-defined]
    return path


class Going:
    """A run of two steps, an agent and a function that waits."""

    def __init__(self, db: SqliteDb, durability: Durability) -> None:
        self.gate, self.store = Gate(), db.store
        agent = Agent(ScriptedModel(["a story"]), name="A")
        self.workflow = Workflow(
            "W", steps=[Step("tell", agent=agent), Step("wait", executor=self._wait)], db=db, durability=durability
        )
        self.reader = self.workflow.run("go", run_id="r", stream=True)
        self.gate.wait_reached()
        db.flush()

    async def _wait(self, step_input: Any) -> str:
        await self.gate.wait()
        return "done"

    def stored(self) -> tuple[bool, bool]:
        """Return whether checkpoints and events are stored."""
        backend: Any = self.store.backend  # type: ignore[attr-defined]
        with backend.reading() as tables:
            return tuple(  # type: ignore[return-value]
                bool(tables.tx.rows(f"SELECT 1 FROM {table} LIMIT 1"))
                for table in (tables.tx.names.parts, tables.tx.names.events)
            )


@pytest.mark.parametrize("durability", DURABILITIES)
def test_what_is_kept(sqlite: SqliteDb, durability: Durability) -> None:
    """While the run goes on the database has what was asked for; afterwards its whole output."""
    going = Going(sqlite, durability)
    assert going.stored() == {"full": (True, True), "events": (False, True), "ends": (False, False)}[durability]
    following = sqlite.follow("r")
    going.gate.open()
    assert list(going.reader)[-1].status is S.completed
    kept = sqlite.get_run("r")
    assert (kept.status, [step.content for step in kept.step_results]) == (S.completed, ["a story", "done"])
    told = list(following)
    assert told[-1].is_terminal and told[-1].run_id == "r"
    assert (len(told) == 1) is (durability == "ends")


@pytest.mark.parametrize("durability", DURABILITIES)
def test_cancelled_by_another_process(sqlite: SqliteDb, durability: Durability) -> None:
    """A cancel through the database is applied and recorded, whatever else is kept."""
    going = Going(sqlite, durability)
    code = "import sys; from desist.db import SqliteDb; assert SqliteDb(sys.argv[1]).cancel('r', reason='enough')"
    subprocess.run([sys.executable, "-c", code, str(path_of(sqlite))], check=True, timeout=120)
    last = list(going.reader)[-1]
    assert (last.status, last.cancel.reason) == (S.cancelled, "enough")
    kept = sqlite.get_run("r")
    assert kept.status is S.cancelled and kept.step_results[0].content == "a story"


@pytest.mark.parametrize("durability", ["events", "ends"])
def test_a_crash_is_still_not_a_success(sqlite: SqliteDb, durability: Durability) -> None:
    """A process that dies leaves no run that seems to go on: the run is marked as ended, with what was kept."""
    path = path_of(sqlite)
    process = subprocess.run([sys.executable, __file__, str(path), durability], timeout=120)
    assert process.returncode == -signal.SIGKILL
    kept = sqlite.get_run("r")
    assert kept.status is S.error and kept.input == "go"


@pytest.mark.parametrize("durability", ["events", "ends"])
def test_runs_that_could_not_be_resumed(sqlite: SqliteDb, durability: Durability) -> None:
    """What keeps no checkpoints can't be resumed: both together are refused when the workflow is made."""
    with pytest.raises(ConfigurationError, match="keeps no checkpoints"):
        Workflow("W", steps=[print], db=sqlite, durability=durability, on_crash="resume")  # type: ignore[list-item]


def test_no_such_value() -> None:
    with pytest.raises(ConfigurationError, match="durability='some' of workflow 'w' must be one of 'full', 'events'"):
        Workflow("W", steps=[print], durability="some")  # type: ignore[arg-type,list-item]


if __name__ == "__main__":  # the process that dies
    going = Going(SqliteDb(sys.argv[1]), sys.argv[2])  # type: ignore[arg-type]
    os.kill(os.getpid(), signal.SIGKILL)
