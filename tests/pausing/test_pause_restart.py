"""A database that one process uses: paused runs after a restart of that process."""

from __future__ import annotations

from pathlib import Path

import pytest
from paused_agents import Payments, paying_agent

from desist import RunStatus, Step, Workflow
from desist.db import JsonDb
from desist.exceptions import UnsupportedError
from desist.run.storage.paused_runs import paused_runs


def test_an_agent_after_a_restart(tmp_path: Path) -> None:
    """The paused run of an agent is continued from its record, with the answer that was given before the restart."""
    db, payments = JsonDb(tmp_path / "runs"), Payments()
    out = paying_agent(payments, db=db).run("go")
    assert paying_agent(payments, db=db).answer(out.run_id, out.requirements[0].id, "confirm", by="ann")
    db.close()
    paused_runs.reset_after_fork()  # what the memory of the process had is gone
    again = JsonDb(tmp_path / "runs")
    agent = paying_agent(payments, ["done"], db=again)
    done = agent.continue_run(run_id=out.run_id)
    assert (done.status, payments.made, done.requirements[0].by) == (RunStatus.completed, [5], "ann")
    again.close()


def test_a_workflow_after_a_restart(tmp_path: Path) -> None:
    """That of a workflow is refused by name."""

    def flow(db: JsonDb) -> Workflow:
        return Workflow("W", db=db, steps=[Step("s", executor=lambda given: "x", requires_confirmation=True)])

    db = JsonDb(tmp_path / "runs")
    out = flow(db).run("go")
    db.close()
    paused_runs.reset_after_fork()
    again = JsonDb(tmp_path / "runs")
    with pytest.raises(UnsupportedError, match="was paused by an earlier process"):
        flow(again).continue_run(run_id=out.run_id)
    again.close()
