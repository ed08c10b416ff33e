"""F3: the deadline of a requirement passes, and nobody looks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from paused_agents import Payments, paying_agent

from desist import RunStatus
from desist.cancel.reason import Source
from desist.db import PostgresDb, SqliteDb
from desist.exceptions import AnswerRefusedError, ConfigurationError
from desist.run.answer import answer, pending
from desist.run.requirement import AnswerOutcome
from desist.run.storage.live_run import live_run
from desist.tools import tool

Until = Callable[[Callable[[], object]], None]


def test_cancelled_by_its_deadline(store: Any, until: Until) -> None:
    """Nobody answers in time: the run is cancelled with the source `deadline`, and a later answer is refused."""
    payments = Payments()
    agent = paying_agent(payments, db=store, answer_timeout=0.05)
    out = agent.run("go")
    until(lambda: agent.get_run_output(out.run_id).status is RunStatus.cancelled)
    found = agent.get_run_output(out.run_id)
    assert found.cancel.source is Source.deadline and "nobody answered in time: pay" in found.cancel.reason
    late = answer(out.run_id, out.requirements[0].id, "confirm", db=store)
    assert late.outcome is AnswerOutcome.expired and not late
    with pytest.raises(AnswerRefusedError):
        agent.continue_run(run_id=out.run_id, requirements=out.requirements)
    assert payments.made == []


@pytest.mark.parametrize(("what", "made"), [("approve", [5]), ("skip", [])])
def test_goes_on_at_its_deadline(store: Any, until: Until, what: str, made: list[int]) -> None:
    """With "approve" the call is confirmed by the deadline, with "skip" rejected; this process continues the run."""
    payments = Payments()
    agent = paying_agent(payments, db=store, answer_timeout=0.05, on_answer_timeout=what)
    out = agent.run("go")
    until(lambda: agent.get_run_output(out.run_id).status is RunStatus.completed and live_run(out.run_id) is None)
    assert payments.made == made
    found = agent.get_run_output(out.run_id)
    assert found.requirements[0].state == "expired" and found.requirements[0].by is None


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_after_everything_was_down(kind: str, tmp_path: Path, new_postgres: Callable[[], str], until: Until) -> None:
    """The process with the run is gone: whoever has the database open next lets the deadline take effect."""
    place = str(tmp_path / "runs.db") if kind == "sqlite" else new_postgres()
    made: Any = SqliteDb if kind == "sqlite" else PostgresDb
    db = made(place)
    out = paying_agent(Payments(), db=db, answer_timeout=0.3).run("go")
    db.close()
    other = made(place)
    until(lambda: other.get_run(out.run_id).status is RunStatus.cancelled)
    assert pending(out.run_id, db=other)[0].state == "expired"
    assert other.get_run(out.run_id).cancel.source is Source.deadline
    events = list(other.follow(out.run_id))
    assert [event.event for event in events][-2:] == ["RunPaused", "RunCancelled"]
    other.close()


def test_an_answer_in_time_wins(store: Any) -> None:
    """An answer before the deadline counts; the deadline then does nothing."""
    payments = Payments()
    agent = paying_agent(payments, db=store, answer_timeout=600)
    out = agent.run("go")
    assert out.requirements[0].timeout_at is not None
    out.requirements[0].confirm()
    assert agent.continue_run(out).content == "done" and payments.made == [5]


def test_refused_settings() -> None:
    """Settings without a meaning are refused by name."""
    with pytest.raises(ConfigurationError, match="only one of"):
        tool(name="x", requires_confirmation=True, external_execution=True)(lambda: None)
    with pytest.raises(ConfigurationError, match="on_answer_timeout='approve' needs requires_confirmation"):
        tool(name="x", external_execution=True, on_answer_timeout="approve")(lambda: None)
    with pytest.raises(ConfigurationError, match="answer_timeout=-1"):
        tool(name="x", requires_confirmation=True, answer_timeout=-1)(lambda: None)
    with pytest.raises(ConfigurationError, match="user_input_fields has unknown names: y"):
        tool(name="x", user_input_fields=["y"])(lambda x: None).check()
