"""Runs that earlier versions left with a terminal event and no end: the event is the truth, and nobody waits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from coordination_stuck import TOLD, leave_stuck, refuse_changes, sql, workflow
from database_worker_program import open_db

from desist import Workflow
from desist.cancel.registry import registry
from desist.db import PostgresDb, SqliteDb
from desist.db.store.shared_table_store import as_found
from desist.run.cancel import cancel
from desist.run.events.base import RunStatus
from desist.testing import Gate

Db = SqliteDb | PostgresDb
OPEN = "SELECT run_id FROM desist_runs WHERE status NOT IN ('CANCELLED', 'COMPLETED', 'ERROR')"


def found(place: str) -> Db:
    """Open a database and leave its runs as they are."""
    with as_found():
        return open_db(place)


def ends(db: Db, run_id: str) -> list[Any]:
    """Return the terminal events that a follower of a run hears."""
    return [event for event in db.follow(run_id) if event.is_terminal and event.run_id == run_id]


def test_opening_gives_each_run_the_end_that_it_has_told(place: str) -> None:
    """A run gets its status, what it made, and its cancel; none is resumed or ended otherwise."""
    leave_stuck(place, *TOLD)
    assert len(sql(place, (OPEN, ()))) == len(TOLD)
    db = open_db(place)
    db.flush()
    assert sql(place, (OPEN, ())) == []
    outputs = {run_id: db.get_run(run_id) for run_id in TOLD}
    assert {run_id: output.status.value for run_id, output in outputs.items()} == TOLD
    assert [step.content for step in outputs["completed"].step_results] == ["one", "two"]
    assert outputs["completed"].content == "two"
    assert outputs["agent"].content == "a whole answer"
    assert "no luck" in outputs["failed"].error
    assert outputs["cancelled"].cancel.reason == "enough"
    assert [step.content for step in outputs["cancelled"].step_results][:1] == ["one"]
    assert workflow(db, Gate()).resume_lost_runs() == [] and db.end_lost_runs() == []
    for run_id, status in TOLD.items():
        assert [event.status.value for event in ends(db, run_id)] == [status]
    db.close()


def test_check_reports_them_and_repairs_them(place: str) -> None:
    """`desist db check` changes nothing, names them and fails; with `--repair` it gives them their ends."""
    leave_stuck(place, "completed", "cancelled")

    def check(*how: str) -> tuple[int, str]:
        command = [str(Path(sys.executable).with_name("desist")), "db", "check", "--db", place, *how]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50)
        return done.returncode, done.stdout

    for _ in range(2):
        code, said = check()
        assert code == 1 and "run cancelled has a terminal event and no end" in said and "--repair" in said
    _, said = check("--repair")
    assert "the end of run completed was stored" in said
    code, said = check()
    assert "terminal event" not in said and sql(place, (OPEN, ())) == []
    assert code == 0 or "fsync" in said  # the server of the tests may lose what it has


def test_a_follower_hears_the_end(place: str) -> None:
    """Whoever follows such a run hears its terminal event once, and is through."""
    leave_stuck(place, "completed", "cancelled")
    db = found(place)
    for run_id in ("completed", "cancelled"):
        assert [event.status.value for event in ends(db, run_id)] == [TOLD[run_id]]
    db.close()
    assert sql(place, (OPEN, ())) == []


def test_a_cancel_is_answered_as_it_ended(place: str) -> None:
    """Cancelling such a run says how it had ended, and is true only of one that was cancelled."""
    leave_stuck(place, "completed", "cancelled")
    db = found(place)
    late, again = cancel("completed", db=db), cancel("cancelled", db=db)
    assert (late.outcome.value, bool(late), late.status) == ("finished", False, RunStatus.completed)
    assert (again.outcome.value, bool(again)) == ("already_cancelled", True)
    db.close()


def test_a_look_shows_the_end(place: str) -> None:
    """What is loaded or listed is the end, though the run could have gone on."""
    leave_stuck(place, "completed")
    db = found(place)
    assert [run.status for run in db.get_runs("s", "workflow")] == [RunStatus.completed]
    db.close()


def test_none_is_resumed_or_queued_again(place: str) -> None:
    """Whoever would go on with such a run ends it instead, a worker, too."""
    leave_stuck(place, "completed", "cancelled")
    db = found(place)
    assert workflow(db, Gate()).resume_lost_runs() == []
    store: Any = db.store
    assert store.workers.requeue_lost({workflow(db, Gate()).id}) == []
    assert store.take_queued("cancelled") is None
    db.flush()
    assert sql(place, (OPEN, ())) == []
    db.close()


def test_a_new_run_of_its_id_isn_t_cancelled_by_what_came_before(place: str) -> None:
    """A run that was cancelled and had told its end doesn't cancel the next one of its id."""
    leave_stuck(place, "cancelled")
    db = found(place)
    made = Workflow("W", steps=[lambda step_input: "new"], db=db).run("go", run_id="cancelled")
    assert made.status is RunStatus.completed
    assert [event.status for event in ends(db, "cancelled")] == [RunStatus.completed]
    db.close()


@pytest.mark.loud
def test_one_that_can_t_be_ended_harms_no_other(place: str, caplog: pytest.LogCaptureFixture) -> None:
    """Ends of lost runs fail one by one: each failure is said with its run, and the others have ends."""
    leave_stuck(place, "completed", "cancelled", "failed")
    refuse_changes(place, "cancelled")
    db = found(place)
    assert sorted(db.end_lost_runs()) == ["completed", "failed"]
    assert sql(place, (OPEN, ())) == [("cancelled",)]
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == 1 and "run cancelled could not be ended" in said[0] and "it is refused" in said[0]
    db.close()


@pytest.mark.loud
def test_a_record_that_can_t_be_read_ends_too(place: str) -> None:
    """A lost run whose record is damaged gets an end, and who follows it hears that."""
    leave_stuck(place, "completed")
    sql(
        place,
        ("DELETE FROM desist_events WHERE run_id = 'completed' AND terminal = 1", ()),
        ("UPDATE desist_runs SET output = '{', resumable = 0 WHERE run_id = 'completed'", ()),
    )
    db = found(place)
    assert db.end_lost_runs() == ["completed"]
    assert sql(place, ("SELECT status, output FROM desist_runs", ())) == [("ERROR", "{")]
    db.close()


@pytest.mark.loud
def test_a_run_that_went_on_after_its_end_doesn_t_end_again(place: str) -> None:
    """Of a run that an earlier version resumed after its terminal event, that event stays the only one."""
    leave_stuck(place, "cancelled")
    db = found(place)
    gate, store = Gate(), db.store
    sql(place, ("UPDATE desist_runs SET cancel = NULL, status = 'PENDING'", ()))
    saved = sql(place, ("SELECT * FROM desist_events WHERE terminal = 1", ()))
    sql(place, ("DELETE FROM desist_events WHERE terminal = 1", ()))
    resumed = workflow(db, gate)
    assert resumed.resume_lost_runs() == ["cancelled"]
    gate.wait_reached()
    db.flush()
    marks = ", ".join("?" * len(saved[0]))
    sql(place, (f"INSERT INTO desist_events VALUES ({marks})", saved[0]))
    live: Any = registry.get("cancelled")
    gate.open()
    assert live.settled.wait(30)
    assert [event.status for event in ends(db, "cancelled")] == [RunStatus.cancelled]
    assert store.load_run("cancelled").status is RunStatus.cancelled  # type: ignore[union-attr]
    assert sql(place, ("SELECT terminal FROM desist_events ORDER BY first_event DESC", ()))[0] == (1,)
    db.close()
