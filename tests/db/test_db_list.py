"""Lists of runs: the newest first, page by page, filtered; the same from every store."""

from __future__ import annotations

from typing import Any

from desist import RunStatus, Step, StepInput, Workflow
from desist.run.storage.values import RunQuery, StoredRun
from desist.run.workflow import WorkflowRunOutput
from desist.testing import Gate

S = RunStatus


def put(db: Any, run_id: str, at: float, **more: Any) -> None:
    status = more.pop("status", S.completed)
    output = WorkflowRunOutput(run_id=run_id, workflow_id=more.get("owner_id", "w"), status=status)
    known = {"kind": "workflow", "owner_id": "w", "root_run_id": run_id} | more
    done = db.store.save_run(StoredRun(run_id=run_id, status=status, output=output, created_at=at, **known))
    if done is not None:
        done.result()


def ids(db: Any, **asked: Any) -> list[str]:
    return [run.run_id for run in db.store.list_runs(RunQuery(**asked))]


def test_newest_first_page_by_page(db: Any) -> None:
    """Each page goes on after the last run of the one before, also among runs of one instant; none twice, none lost."""
    for number in range(7):
        put(db, f"r{number}", 100.0 + number // 2)
    seen: list[str] = []
    after = None
    while page := db.store.list_runs(RunQuery(limit=2, after=after)):
        seen += [run.run_id for run in page]
        after = (page[-1].created_at, page[-1].run_id)
    assert seen == [f"r{number}" for number in reversed(range(7))]


def test_filters(db: Any) -> None:
    """By owner, session, user, status and age; a run that was started in another one is never listed."""
    put(db, "a", 1.0, session_id="s", user_id="ann")
    put(db, "b", 2.0, session_id="s", user_id="bob", status=S.cancelled)
    put(db, "c", 3.0, owner_id="other")
    put(db, "inner", 4.0, parent_run_id="c")
    assert ids(db) == ["c", "b", "a"]
    assert ids(db, session_id="s") == ["b", "a"]
    assert ids(db, user_id="ann") == ["a"]
    assert ids(db, status=S.cancelled) == ["b"]
    assert ids(db, status=S.running) == []
    assert ids(db, owners=frozenset({("workflow", "w"), ("agent", "w")})) == ["b", "a"]
    assert ids(db, owners=frozenset({("agent", "w")})) == []
    assert ids(db, created_before=2.0) == ["a"]


def test_live_runs_are_listed_as_they_are(db: Any) -> None:
    """A run that goes on is listed once, RUNNING, though only its start is recorded; then as it ended."""
    gate = Gate()

    def wait(_: StepInput) -> None:
        gate.wait_blocking()

    workflow = Workflow("W", steps=[Step("wait", executor=wait)], db=db)
    reader = workflow.run("go", stream=True)
    gate.wait_reached()
    found = db.store.list_runs(RunQuery())
    assert [(run.run_id, run.status) for run in found] == [(reader.run_id, S.running)]
    assert ids(db, status=S.running) == [reader.run_id]
    assert ids(db, status=S.completed) == []
    gate.open()
    list(reader)
    assert ids(db, status=S.completed) == [reader.run_id]
    assert ids(db, status=S.running) == []
