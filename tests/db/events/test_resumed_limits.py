"""A run that goes on in another process keeps the limits that it was started with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from database_worker import Worker
from events_workflows import asking, story
from raw_tables import Db, execute

from desist.cancel.reason import Source
from desist.cancel.registry import registry
from desist.run.events.base import RunStatus
from desist.testing import Gate

S = RunStatus
Start = Callable[[], Worker]
LATER = 4_000_000_000.0


def killed(worker: Start, kind: str, **options: Any) -> None:
    other = worker()
    other.start(kind, "r", on_crash="resume", flush=True, options=options)
    other.kill()


def options_of(place: str) -> dict[str, Any]:
    return dict(json.loads(execute(place, "SELECT options FROM desist_runs WHERE run_id = 'r'")[0][0]))


def test_deadline_and_timeout(worker: Start, db: Db, place: str) -> None:
    """Times count from the first start, not from the resumption; the workflow's own timeout, too."""
    killed(worker, "story", deadline=LATER, timeout=5000.0)
    before = options_of(place)["limits"]
    gate = Gate()
    workflow = story(gate, db, on_crash="resume", timeout=1.0)  # not that of the run, which was begun without
    assert workflow.resume_lost_runs() == ["r"]
    run: Any = registry.get("r")
    assert [asdict(limit) for limit in run.limits.durable.limits] == before
    deadline = next(limit for limit in run.limits.durable.limits if limit.what == "the deadline of this run")
    assert deadline.until == pytest.approx(LATER, abs=1.0)
    assert [limit.seconds for limit in run.limits.durable.limits if limit.what == "the timeout of this run"] == [5000.0]
    gate.open()
    assert list(workflow.follow("r"))[-1].status is S.completed


def test_a_deadline_that_has_passed_meanwhile(worker: Start, db: Db, place: str) -> None:
    """A run whose time was over before anybody could go on with it is cancelled, and runs nothing."""
    killed(worker, "story", deadline=LATER)
    limits = options_of(place)["limits"]
    limits[0]["until"] = 1.0
    execute(place, "UPDATE desist_runs SET options = ?", json.dumps({"limits": limits}))
    gate = Gate()
    workflow = story(gate, db, on_crash="resume")
    assert workflow.resume_lost_runs() == ["r"]
    last = list(workflow.follow("r"))[-1]
    assert (last.event, last.cancel.source, gate.reached) == ("WorkflowCancelled", Source.deadline, 0)
    db.flush()
    assert db.get_run("r").cancel.source is Source.deadline


def test_budget(worker: Start, db: Db) -> None:
    """What was spent before the crash counts: the first request too many isn't sent."""
    killed(worker, "asking", budget={"model_calls": 1})
    gate = Gate()
    gate.open()
    workflow = asking(gate, db, on_crash="resume")
    assert workflow.resume_lost_runs() == ["r"]
    last = list(workflow.follow("r"))[-1]
    assert (last.event, last.cancel.source) == ("WorkflowCancelled", Source.budget)
    assert [step.content for step in last.step_results[:2]] == ["a word", "went on"]
    assert workflow.steps[2].agent.model.requests == []  # type: ignore[attr-defined]  # a step of ours


@pytest.mark.loud
def test_a_price_is_a_function(worker: Start, db: Db) -> None:
    """A limit of the cost is never dropped: whoever goes on gives the price again, or the run ends and says so."""
    killed(worker, "asking", budget={"cost": 0.3})
    gate = Gate()
    gate.open()
    workflow = asking(gate, db, on_crash="resume")
    assert workflow.resume_lost_runs() == []
    assert "resume_lost_runs(price=...)" in db.get_run("r").error


def test_the_cost_goes_on(worker: Start, db: Db) -> None:
    """With the price, the cost counts on from what it was."""
    killed(worker, "asking", budget={"cost": 0.3})
    gate = Gate()
    gate.open()
    workflow = asking(gate, db, on_crash="resume")
    assert workflow.resume_lost_runs(price=lambda model, usage: 0.25) == ["r"]
    last = list(workflow.follow("r"))[-1]
    assert (last.event, last.cancel.source) == ("WorkflowCancelled", Source.budget)
    assert "0.3 cost is spent (0.5)" in last.reason
