"""F6: kill -9 while a run is paused, while an answer is being stored, just after, and in the guarded call."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paused_agents import Payments, paying_agent

from desist import RunStatus
from desist.db import PostgresDb, SqliteDb
from desist.exceptions import RunStateError
from desist.run.answer import answer, pending
from desist.run.requirement import AnswerOutcome

PROGRAM = Path(__file__).with_name("pause_crash_program.py")
SUPPORT = Path(__file__).parents[1] / "support"


class Scenes:
    """Runs scenes in processes that are killed, on one database."""

    def __init__(self, kind: str, place: str, log: Path) -> None:
        self.kind, self.place, self.log = kind, place, log

    def kill_in(self, scene: str) -> None:
        command = [sys.executable, str(PROGRAM), self.kind, self.place, scene, str(self.log)]
        path = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
        )
        assert child.stdout is not None
        word = child.stdout.readline()
        child.kill()
        _, told = child.communicate()
        assert word == b"READY\n", told.decode()

    def open(self) -> Any:
        made: Any = PostgresDb if self.kind == "postgres" else SqliteDb
        return made(self.place)

    @property
    def paid(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


@pytest.fixture(params=["sqlite", "postgres"])
def scenes(request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]) -> Iterator[Scenes]:
    """Scenes on one database."""
    place = new_postgres() if request.param == "postgres" else str(tmp_path / "runs.db")
    yield Scenes(request.param, place, tmp_path / "paid.txt")


def test_killed_while_paused(scenes: Scenes) -> None:
    """The run waits on, with all that had finished; another process answers and continues it."""
    scenes.kill_in("paused")
    db = scenes.open()
    found = db.get_run("r")
    assert found.status is RunStatus.paused
    assert [m.role for m in found.messages] == ["user", "assistant", "tool"]
    payments = Payments()
    agent = paying_agent(payments, ["done"], db=db)
    assert answer("r", pending("r", db=db)[0].requirement_id, "confirm", by="bob", db=db)
    done = agent.continue_run(run_id="r")
    assert (done.status, done.content, payments.made) == (RunStatus.completed, "done", [5])
    assert [event.event for event in db.follow("r")].count("RunCompleted") == 1
    db.close()


def test_killed_just_after_an_answer(scenes: Scenes) -> None:
    """An answer that was confirmed counts; a second one learns who was first."""
    scenes.kill_in("paused")
    scenes.kill_in("answered")
    db = scenes.open()
    late = answer("r", pending("r", db=db)[0].requirement_id, "reject", by="bob", db=db)
    assert (late.outcome, late.by) == (AnswerOutcome.already_answered, "ann")
    payments = Payments()
    assert paying_agent(payments, ["done"], db=db).continue_run(run_id="r").content == "done"
    assert payments.made == [5]
    db.close()


def test_killed_while_answering(scenes: Scenes) -> None:
    """An answer that is being stored counts or doesn't; either way one answer is acted on."""
    scenes.kill_in("paused")
    scenes.kill_in("answering")
    db = scenes.open()
    second = answer("r", pending("r", db=db)[0].requirement_id, "confirm", by="bob", db=db)
    assert second or second.by == "ann"
    payments = Payments()
    assert paying_agent(payments, ["done"], db=db).continue_run(run_id="r").content == "done"
    assert payments.made == [5]
    db.close()


def test_killed_in_the_guarded_call(scenes: Scenes) -> None:
    """The call was begun, so it is not made again: the run ends as after any crash, and says so to the next model."""
    scenes.kill_in("paused")
    scenes.kill_in("answered")
    scenes.kill_in("in the call")
    assert scenes.paid == 1
    db = scenes.open()
    found = db.get_run("r")
    assert found.status is RunStatus.error
    results = [m.content for m in found.messages if m.role == "tool"]
    assert results[0] == "saw it" and "may have had effects" in results[1]
    payments = Payments()
    with pytest.raises(RunStateError):
        paying_agent(payments, ["done"], db=db).continue_run(run_id="r", requirements=found.requirements)
    assert payments.made == [] and scenes.paid == 1
    db.close()
