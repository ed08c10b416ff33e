"""Cancels at the worst moments of storing and loading; stored before shown; a database that fails in mid-run."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from desist import Agent, Step, Workflow
from desist.cancel import Outcome
from desist.cancel.registry import registry
from desist.db import SqliteDb
from desist.db.backends.sqlite import SqliteBackend
from desist.db.store.table_store import TableStore
from desist.db.tables.sql_transaction import TableNames
from desist.run.events.base import RunStatus
from desist.testing import Gate, ScriptedModel

S = RunStatus


class GatedFile(SqliteBackend):
    """A real file that is as slow as the test wants."""

    def __init__(self, path: Path) -> None:
        self.reads, self.writes = threading.Event(), threading.Event()
        self.reads.set()
        self.writes.set()
        self.reading_now, self.writing_now = threading.Event(), threading.Event()
        super().__init__(path, TableNames(), 30.0)

    @contextmanager
    def reading(self) -> Iterator[Any]:
        self.reading_now.set()
        assert self.reads.wait(30)
        with super().reading() as tables:
            yield tables

    def write(self, jobs: Any) -> list[Any]:
        if any(job.durable for job in jobs):  # a start or an end
            self.writing_now.set()
        assert self.writes.wait(30)
        return super().write(jobs)


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[tuple[GatedFile, TableStore]]:
    file = GatedFile(tmp_path / "runs.db")
    store = TableStore(file, 30.0)
    yield file, store
    file.reads.set()
    file.writes.set()
    store.close()


def stored_status(path: Path, run_id: str) -> str | None:
    """Return what stands in the file, seen by somebody else."""
    with closing(sqlite3.connect(path)) as connection:
        row = connection.execute("SELECT status FROM desist_runs WHERE run_id = ?", (run_id,)).fetchone()
    return row[0] if row else None


@pytest.mark.parametrize("kind", ["workflow", "agent"])
def test_cancelled_while_the_session_is_loaded(gated: tuple[GatedFile, TableStore], kind: str) -> None:
    """A cancel interrupts a disk that doesn't answer: nothing has begun, and the session's state stays as it was."""
    file, store = gated
    model = ScriptedModel(["no"])
    agent = Agent(model, name="A", db=store, add_history_to_context=True)
    steps = Workflow("W", steps=[agent], db=store)
    runner: Any = agent if kind == "agent" else steps
    runner.update_session_state({"n": 1}, "s")
    file.reads.clear()
    file.reading_now.clear()
    events = runner.run("go", session_id="s", run_id="r", stream=True)
    assert file.reading_now.wait(30)
    receipt = runner.cancel("r", reason="enough")
    assert receipt.outcome is Outcome.accepted
    assert receipt.wait(30), "it is settled while the disk still hangs"
    assert list(events)[-1].status is S.cancelled
    file.reads.set()
    assert model.requests == []
    assert runner.get_session_state("s") == {"n": 1}
    assert stored_status(file.path, "r") == "CANCELLED"


def test_cancelled_while_history_is_loaded(gated: tuple[GatedFile, TableStore]) -> None:
    """An agent in a workflow that waits for its history is interrupted, and asks nothing."""
    file, store = gated
    model = ScriptedModel(["one", "two"])
    agent = Agent(model, name="A", add_history_to_context=True)
    gate = Gate()
    workflow = Workflow("W", steps=[Step("wait", executor=lambda given: gate.wait_blocking(30)), agent], db=store)
    events = workflow.run("go", run_id="r", stream=True)
    gate.wait_reached()
    file.reads.clear()
    file.reading_now.clear()
    gate.open()
    assert file.reading_now.wait(30)
    assert workflow.cancel("r").wait(30)
    assert list(events)[-1].status is S.cancelled
    assert model.requests == []


def test_completed_while_the_end_is_written(gated: tuple[GatedFile, TableStore]) -> None:
    """Guarantee 1, 5: completion has won, but isn't shown before it is stored; a cancel meanwhile came too late."""
    file, store = gated
    shown: list[Any] = []
    gate = Gate()
    workflow = Workflow("W", steps=[Step("wait", executor=lambda given: gate.wait_blocking(30))], db=store)
    reader = workflow.run("go", run_id="r", stream=True)
    thread = threading.Thread(target=lambda: shown.extend((event, stored_status(file.path, "r")) for event in reader))
    thread.start()
    gate.wait_reached()
    store.writer.flush()
    file.writes.clear()
    file.writing_now.clear()
    gate.open()
    assert file.writing_now.wait(30)
    receipt = workflow.cancel("r")
    assert (receipt.outcome, receipt.status) == (Outcome.finished, S.completed)
    assert not [event for event, _ in shown if event.is_terminal]
    file.writes.set()
    thread.join(30)
    last, stored = shown[-1]
    assert (last.status, stored) == (S.completed, "COMPLETED")


def test_cancelled_while_the_end_is_written(gated: tuple[GatedFile, TableStore]) -> None:
    """Until its end is stored a cancelled run reads CANCELLING, and repeats get the same answer."""
    file, store = gated
    gate = Gate()
    workflow = Workflow("W", steps=[Step("wait", executor=lambda given: gate.wait_blocking(30))], db=store)
    reader = workflow.run("go", run_id="r", stream=True)
    gate.wait_reached()
    store.writer.flush()
    file.writes.clear()
    receipt = workflow.cancel("r", reason="first")
    again = workflow.cancel("r", reason="second")
    assert (again.outcome, again.reason) == (Outcome.already_cancelling, "first")
    assert receipt.status is S.cancelling
    assert not receipt.wait(0.05)
    file.writes.set()
    assert receipt.wait(30)
    assert list(reader)[-1].status is S.cancelled
    assert stored_status(file.path, "r") == "CANCELLED"


@pytest.mark.parametrize("script", [["said and done"], [["half", Gate()]], [[ValueError("no")]]])
def test_stored_before_shown(sqlite: SqliteDb, script: list[Any]) -> None:
    """B7: whoever sees the terminal event finds the run in the file, whatever its end is, with what it changed."""
    agent = Agent(ScriptedModel(script), name="A")
    workflow = Workflow(
        "W", steps=[Step("agent", agent=agent, on_error="fail", max_retries=0)], db=sqlite, session_state={"n": 1}
    )
    for event in workflow.run("go", run_id="r", session_id="s", stream=True):
        if event.event == "RunContent" and event.content == "half":
            workflow.cancel("r")
        if event.is_terminal:
            assert stored_status(sqlite.db_file, "r") == event.status.value
            with closing(sqlite3.connect(sqlite.db_file)) as connection:
                (data,) = connection.execute("SELECT session_data FROM desist_sessions").fetchone()
            assert data == '{"session_state":{"n":1}}'
            break
    else:
        raise AssertionError("there was no terminal event")


def test_a_cancelled_run_is_stored_whole(sqlite: SqliteDb) -> None:
    """What had finished is kept, what was interrupted is there with its partial text; the parts are gone."""
    gate = Gate()
    agent = Agent(ScriptedModel([["half an answer", gate]]), name="A")
    workflow = Workflow("W", steps=[Step("one", executor=lambda given: "done"), Step("two", agent=agent)], db=sqlite)
    reader = workflow.run("go", run_id="r", session_id="s", stream=True)
    gate.wait_reached()
    workflow.cancel("r", reason="enough", by="me").wait(30)
    reader.close()
    output = sqlite.get_run("r")
    assert (output.status, output.content, output.cancel.by) == (S.cancelled, "half an answer", "me")
    assert [(step.content, step.cancelled) for step in output.step_results] == [
        ("done", False),
        ("half an answer", True),
    ]
    (inner,) = output.step_executor_runs
    assert (inner.status, inner.content) == (S.cancelled, "half an answer")
    with closing(sqlite3.connect(sqlite.db_file)) as connection:
        assert connection.execute("SELECT count(*) FROM desist_run_parts").fetchone() == (0,)


@pytest.mark.loud
def test_the_file_is_locked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Another process holds the file: the run's end waits for it, bounded, and says that it isn't stored."""
    db = SqliteDb(tmp_path / "runs.db", timeout=0.2)
    workflow = Workflow("W", steps=[lambda given: "done"], db=db)
    with closing(sqlite3.connect(db.db_file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        output = workflow.run("go", run_id="r", session_id="s")
        assert output.status is S.completed
        assert "runs.db did not store this within 0.2 s" in output.store_error
        assert stored_status(db.db_file, "r") is None
        other.execute("ROLLBACK")
    assert "run r could not be stored" in caplog.text
    db.close()
    assert stored_status(db.db_file, "r") == "COMPLETED", "it was tried until it could be"


@pytest.mark.loud
def test_cancelled_while_the_file_is_locked(tmp_path: Path) -> None:
    """A cancel is answered and carried out, whatever the database does; its end is told within the bound."""
    db = SqliteDb(tmp_path / "runs.db", timeout=0.2)
    gate = Gate()
    workflow = Workflow("W", steps=[Step("wait", executor=lambda given: gate.wait_blocking(30))], db=db)
    with closing(sqlite3.connect(db.db_file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        reader = workflow.run("go", run_id="r", stream=True)
        gate.wait_reached()
        receipt = workflow.cancel("r")
        assert receipt.wait(30)
        last = list(reader)[-1]
        assert last.status is S.cancelled
        assert "did not store this" in last.run_output.store_error
        other.execute("ROLLBACK")
    db.close()
    assert stored_status(db.db_file, "r") == "CANCELLED"


FULL = """
import logging, resource, sys
from desist import Step, Workflow
from desist.db import SqliteDb

logging.basicConfig(level=logging.ERROR, format="%(message)s", stream=sys.stdout)
db = SqliteDb(sys.argv[1])

def fill(given):
    db.flush()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # no file may grow beyond
    return "x" * 300_000

steps = [Step("one", executor=lambda given: "one is done"), Step("two", executor=fill), lambda given: "went on"]
output = Workflow("W", steps=steps, db=db).run("go", run_id="r", session_id="s")
print(output.status.value, output.content, "|", output.store_error)
"""


def test_the_disk_is_full(tmp_path: Path) -> None:
    """The run goes on, and its log and its output say that it isn't stored; what was before is kept."""
    path = tmp_path / "runs.db"
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(FULL), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert "COMPLETED went on | " in done.stdout
    assert "run r could not be stored: " in done.stdout
    db = SqliteDb(path)
    output = db.get_run("r")
    assert (output.status, output.step_results[0].content) == (S.error, "one is done")
    assert "ended without storing the end" in output.error
    db.close()


FULL_FOR_A_WHILE = """
import logging, resource, sys
from desist import Workflow
from desist.db import SqliteDb

logging.disable(logging.CRITICAL)
db = SqliteDb(sys.argv[1])
workflow = Workflow("W", steps=[lambda given: given.input], db=db)
workflow.run("before", session_id="s")
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
lost = workflow.run("x" * 300_000, run_id="r", session_id="s")
assert lost.store_error is not None
assert workflow.get_run("r").status.value == "COMPLETED", "what can't be stored is still told truly"
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
assert workflow.run("after", session_id="s").store_error is None
db.flush()
"""


def test_the_disk_is_full_for_a_while(tmp_path: Path) -> None:
    """An end that couldn't be written is told truly all the same, and is written when that is possible again."""
    path = tmp_path / "runs.db"
    command = [sys.executable, "-W", "error", "-c", FULL_FOR_A_WHILE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    db = SqliteDb(path)
    assert [(run.status, run.error) for run in db.get_runs("s")] == [(S.completed, None)] * 3
    db.close()


def test_a_lost_end_in_a_live_process(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run that ended here, and whose end isn't stored, isn't told to be running."""
    caplog.set_level(logging.CRITICAL)
    db = SqliteDb(tmp_path / "runs.db")
    store: Any = db.store
    gate = Gate()
    workflow = Workflow("W", steps=[Step("wait", executor=lambda given: gate.wait_blocking(30))], db=db)
    live = workflow.run("go", run_id="r", session_id="s", stream=True)
    gate.wait_reached()
    run: Any = registry.get("r")
    stored = run.to_stored(S.running)
    gate.open()
    list(live)
    stored.output.status = S.running
    store.save_run(stored).result()  # as if the end had never come
    output = db.get_run("r")
    assert (output.status, output.error) == (S.error, "the end of this run could not be stored")
    db.close()


def test_cancel_against_completion(sqlite: SqliteDb) -> None:
    """B1: whichever wins, the receipt, the last event and the file say the same."""
    agent = Agent(ScriptedModel(["one two three four"], repeat=True), name="A")
    workflow = Workflow("W", steps=[Step("one", executor=lambda given: "done"), agent], db=sqlite)
    won: set[RunStatus] = set()
    for number in range(60):
        run_id = f"race-{number}"
        receipts: list[Any] = []
        reader = workflow.run("go", run_id=run_id, session_id="s", stream=True, stream_events=True)
        events = []
        for event in reader:
            events.append(event)
            if len(events) == number % 14 + 1:
                thread = threading.Thread(target=lambda: receipts.append(workflow.cancel(run_id)))  # noqa: B023  # joined
                thread.start()
        thread.join(30)
        last = events[-1].status
        assert stored_status(sqlite.db_file, run_id) == last.value
        assert bool(receipts[0]) is (last is S.cancelled)
        assert sqlite.get_run(run_id).status is last
        won.add(last)
    assert won <= {S.cancelled, S.completed}
    assert len(sqlite.get_runs("s")) == 60
