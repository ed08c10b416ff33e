"""What is nested deep, and records that can't be read: neither breaks a list, and what runs can be stored and read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from desist.db import JsonDb, SqliteDb
from desist.exceptions import ConfigurationError, UnreadableError
from desist.run.events.base import RunStatus
from desist.run.records.json_values import dump
from desist.run.storage.store import RunQuery
from desist.workflow import Condition, Loop, Parallel, Router, Step, StepInput, StepOutput, Steps, Workflow
from desist.workflow.step_function import MAX_OUTPUTS
from desist.workflow.step_list import MAX_NESTED

S = RunStatus
DEPTHS = (100, 400, 3000)


def quick(given: StepInput) -> str:
    return "done"


WRAPS: dict[str, Callable[[Any, str], Any]] = {
    "Steps": lambda inner, name: Steps(name, steps=[inner]),
    "Parallel": lambda inner, name: Parallel(name, inner, Step("beside", executor=quick)),
    "Loop": lambda inner, name: Loop([inner], name, max_iterations=1),
    "Condition": lambda inner, name: Condition([inner], name=name),
    "Router": lambda inner, name: Router([inner], lambda _: [inner.name], name),
    "Workflow": lambda inner, name: Workflow(name, steps=[inner]),
}


def nested(kind: str, depth: int, db: Any = None) -> Workflow:
    inner: Any = Step("inmost", executor=quick)
    for level in range(depth):
        inner = WRAPS[kind](inner, f"level {level}")
    return Workflow("deep", steps=[inner], db=db)


@pytest.fixture(params=["sqlite", "json"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    made: Any = SqliteDb(str(tmp_path / "runs.db")) if request.param == "sqlite" else JsonDb(tmp_path)
    yield made
    made.close()


def listed(db: Any) -> list[Any]:
    """Return what is stored, read anew."""
    db.flush()
    return list(db.store.list_runs(RunQuery()))


@pytest.mark.parametrize("kind", WRAPS)
def test_the_deepest_that_can_be_made_can_be_read(kind: str, db: Any) -> None:
    """Its whole tree of outputs comes back, by get_run and in lists, as the run told it."""
    made = nested(kind, MAX_NESTED, db).run("go")
    assert made.status is S.completed
    db.flush()
    assert dump(db.get_run(made.run_id).step_results) == dump(made.step_results)
    step, count = db.get_run(made.run_id).step_results[0], 0
    while step.steps:
        step, count = step.steps[0], count + 1
    assert count == MAX_NESTED and step.content == "done"
    assert [run.status for run in listed(db)] == [S.completed]


@pytest.mark.parametrize("kind", WRAPS)
def test_deeper_is_refused_when_it_is_made(kind: str) -> None:
    """The error says how deep one may go, and what to do."""
    with pytest.raises(ConfigurationError, match=f"more than {MAX_NESTED} containers and workflows.*function step"):
        nested(kind, MAX_NESTED + 1)


def test_deeper_by_a_later_change_is_refused_before_it_runs() -> None:
    """A container that was changed after it was made is looked at when the workflow is run."""
    loop = Loop([Step("in", executor=quick)], "loop", max_iterations=1)
    workflow = Workflow("deep", steps=[loop])
    inner: Any = Step("inmost", executor=quick)
    for level in range(MAX_NESTED):
        inner = Steps(f"level {level}", steps=[inner])
    loop.steps.append(inner)
    with pytest.raises(ConfigurationError, match="inside of one another"):
        workflow.run("go")


@pytest.mark.parametrize("depth", DEPTHS)
def test_deep_values_of_programs(depth: int, db: Any) -> None:
    """Deep contents and session states end no run badly, and what is stored of them can be read."""

    def deep() -> Any:
        value: Any = "x"
        for _ in range(depth):
            value = {"in": [value]}
        return value

    def content(given: StepInput) -> StepOutput:
        return StepOutput(content=deep())

    def state(given: StepInput, session_state: dict[str, Any]) -> str:
        session_state["deep"] = deep()
        return "done"

    for function in (content, state):
        steps = [Parallel("side by side", Step(function.__name__, executor=function), Step("other", executor=quick))]
        made = Workflow("values", steps=steps, db=db).run("go", session_id=function.__name__)
        assert made.status is S.completed, made
        db.flush()
        assert db.get_run(made.run_id).status is S.completed
        assert db.get_session(function.__name__) is not None
    runs = listed(db)
    assert [run.output.store_error for run in runs] == [None, None]
    assert all(dump(run.output) for run in runs)


@pytest.mark.parametrize("depth", [MAX_OUTPUTS, MAX_OUTPUTS + 1, 3000])
def test_deep_outputs_of_functions(depth: int, db: Any) -> None:
    """Step outputs in one another are kept, also in the deepest workflow; too many fail their step, which says so."""

    def outputs(given: StepInput) -> StepOutput:
        made = StepOutput(content="inmost")
        for _ in range(depth):
            made = StepOutput(content="around", steps=[made])
        return made

    inner: Any = Step("in", executor=outputs, max_retries=0)
    for level in range(MAX_NESTED):
        inner = Steps(f"level {level}", steps=[inner])
    made = Workflow("outputs", steps=[inner], db=db).run("go")
    db.flush()
    stored = db.get_run(made.run_id)
    step = stored.step_results[0]
    for _ in range(MAX_NESTED):
        step = step.steps[0]
    assert stored.status is made.status is S.completed
    if depth <= MAX_OUTPUTS:
        assert step.success and step.steps[0].content == "around"
    else:
        assert not step.success and f"more than {MAX_OUTPUTS} others inside of one another" in step.error
    assert [run.output.store_error for run in listed(db)] == [None]


def test_runs_in_runs_as_deep_as_functions_like(db: Any) -> None:
    """Workflows that functions of workflows run, 60 levels: the whole tree is stored, and each can be read."""

    def level(left: int) -> Callable[[StepInput], str]:
        def work(given: StepInput) -> str:
            if left:
                Workflow(f"level {left}", steps=[Step("in", executor=level(left - 1))], db=db).run("go")
            return "done"

        return work

    made = Workflow("top", steps=[Step("in", executor=level(60))], db=db).run("go", session_id="s")
    db.flush()
    assert db.get_run(made.run_id).status is S.completed and len(listed(db)) == 1


BROKEN = (
    "not json",
    "{",
    "[]",
    "null",
    '{"step_results": [5]}',
    '{"status": "DANCING"}',
    '{"metrics": "none"}',
    '{"step_results": [{"steps": [[[3]]]}]}',
    '{"a":' * 50_000 + "1" + "}" * 50_000,  # deeper than any version of Python reads
    '{"events": [{"event": 7}]}',
)


@pytest.mark.loud
@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_one_bad_record_breaks_no_list(text: str, tmp_path: Path) -> None:
    """It is listed with its id, its status and why it can't be read; asked for by itself that is the error."""
    path = tmp_path / "runs.db"
    db = SqliteDb(str(path))
    workflow = Workflow("w", id="w", steps=[Step("one", executor=quick)], db=db)
    bad, good = (workflow.run("go", session_id="s").run_id for _ in range(2))
    db.flush()
    with sqlite3.connect(path) as other:
        changed = other.execute(f"UPDATE {_table(other)} SET output = ? WHERE run_id = ?", (text, bad)).rowcount
    other.close()
    assert changed == 1
    runs = {run.run_id: run for run in listed(db)}
    assert runs[good].output.store_error is None
    assert runs[bad].status is S.completed and runs[bad].owner_id == "w"
    assert runs[bad].output.store_error.startswith(f"the stored workflow run {bad} can't be read: ")
    assert dump(runs[bad].output)
    with pytest.raises(UnreadableError, match=bad):
        db.get_run(bad)
    assert [run.run_id for run in db.get_runs("s")] == [good]  # a history holds what can be read
    db.close()


def _table(connection: sqlite3.Connection) -> str:
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%runs'").fetchall()
    return str(names[0][0])


def test_what_an_older_version_cut_can_be_read(tmp_path: Path) -> None:
    """Records in whose depths stands text in the place of steps come back with that text as content."""
    path = tmp_path / "runs.db"
    db = SqliteDb(str(path))
    run_id = Workflow("w", steps=[Step("one", executor=quick)], db=db).run("go").run_id
    db.flush()
    cut = {"run_id": run_id, "status": "COMPLETED", "step_results": [{"steps": [{"steps": "[cut]"}, "cut"]}]}
    with sqlite3.connect(path) as other:
        other.execute(f"UPDATE {_table(other)} SET output = ? WHERE run_id = ?", (json.dumps(cut), run_id))
    other.close()
    inner = db.get_run(run_id).step_results[0].steps
    assert inner[0].steps[0].content == "[cut]" and inner[1].content == "cut"
    db.close()
