"""C7, C8: workers that are killed, frozen, or taken for dead; who goes on with their runs, and who may write."""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, cast

import psycopg
import pytest
from database_worker import Worker
from database_worker_program import Db, open_db

from desist import Workflow
from desist.cancel.reason import CancelReason, Source
from desist.cancel.registry import registry
from desist.cancel.scope import Outcome
from desist.db import InMemoryDb
from desist.db.coordination import lease_keeper
from desist.db.coordination import transactions as asking
from desist.db.process.identity import this_process
from desist.db.records.cancel_request import CancelRequestRow
from desist.exceptions import ConfigurationError, LeaseLostError
from desist.run.cancel import cancel
from desist.run.events.base import RunStatus
from desist.run.storage.values import CancelRequest
from desist.testing import Gate, assert_no_leaks
from desist.workflow import Step
from desist.workflow.recovery import Recovery

S = RunStatus
Start = Callable[[], Worker]


def change(place: str, statement: str, *values: Any) -> None:
    """Change the database behind everybody's back."""
    if "://" in place:
        with psycopg.connect(place) as server:
            server.execute(statement.replace("?", "%s").encode(), values)
        return
    with closing(sqlite3.connect(place, timeout=30)) as connection, connection:
        connection.execute(statement, values)


def statuses(place: str) -> list[str]:
    """Return what stands in the database, seen by somebody else."""
    query = "SELECT status FROM desist_runs"
    if "://" in place:
        with psycopg.connect(place) as server:
            return [row[0] for row in server.execute(query).fetchall()]
    with closing(sqlite3.connect(place)) as connection:
        return [row[0] for row in connection.execute(query).fetchall()]


def kept(db: Db, ran: list[str], two: Any = None, **how: Any) -> Workflow:
    """The workflow of the worker's kind "kept", which says what of it ran here."""

    async def step(step_input: Any, name: str) -> str:
        ran.append(name)
        return f"{name} here"

    async def second(step_input: Any) -> str:
        ran.append("two")
        return "two here" if two is None else str(await two(step_input))

    steps = [
        Step("one", executor=lambda step_input: step(step_input, "one")),
        Step("two", executor=second),
        Step("three", executor=lambda step_input: step(step_input, "three")),
    ]
    return Workflow("W", steps=steps, db=db, on_crash="resume", **how)


def first_step_is_stored(db: Db) -> None:
    while not db.get_run("r").step_results:
        db.flush()


def test_frozen_and_cancelled(worker: Start, db: Db) -> None:
    """A frozen worker doesn't answer: the canceller ends its run. When it wakes it stops, and writes nothing more."""
    other = worker()
    other.start("kept", "r")
    first_step_is_stored(db)
    other.signal(signal.SIGSTOP)
    receipt = cancel("r", reason="no answer", db=db)
    assert receipt.outcome is Outcome.accepted
    assert receipt.wait(40)
    before = db.get_run("r")
    assert (before.status, [step.content for step in before.step_results]) == (S.cancelled, ["done"])
    other.signal(signal.SIGCONT)
    told = other.hear("end", "r")
    assert (told["status"], told["reason"], told["terminal"], told["error"]) == ("CANCELLED", "no answer", 1, None)
    assert db.get_run("r") == before


def test_a_zombie_writes_nothing(worker: Start, db: Db, place: str) -> None:
    """A worker that was taken for dead finds its run gone on elsewhere: it stops, with `lease_lost`."""
    other, ran = worker(), list[str]()
    other.start("kept", "r", on_crash="resume")
    first_step_is_stored(db)
    other.signal(signal.SIGSTOP)
    change(
        place, "UPDATE desist_owners SET until = ? WHERE process LIKE ?", time.time() - 1, f"%|{other.process.pid}|%"
    )
    gate = Gate()

    async def two(step_input: Any) -> str:
        await gate.wait()
        return "two here"

    workflow = kept(db, ran, two)
    assert workflow.resume_lost_runs() == ["r"]
    gate.wait_reached()
    other.signal(signal.SIGCONT)
    told = other.hear("end", "r")
    assert (told["status"], told["source"]) == ("CANCELLED", "lease_lost")
    assert "was taken over" in told["error"]
    assert not db.get_run("r").status.is_final
    gate.open()
    *_, last = workflow.follow("r")
    assert last.status is S.completed
    db.flush()
    assert [step.content for step in db.get_run("r").step_results] == ["done", "two here", "three here"]
    assert ran == ["two", "three"]


def test_killed_and_resumed(worker: Start, db: Db) -> None:
    """A run whose process was killed goes on in another one, under its id; what had finished isn't run again."""
    other, ran = worker(), list[str]()
    other.start("kept", "r", on_crash="resume")
    first_step_is_stored(db)
    other.kill()
    assert not db.get_run("r").status.is_final, "it waits for its workflow"
    assert db.end_lost_runs() == []
    workflow = kept(db, ran)
    assert workflow.resume_lost_runs() == ["r"]
    *_, last = workflow.follow("r")
    assert (last.status, ran) == (S.completed, ["two", "three"])
    output = db.get_run("r")
    assert (output.status, output.continued_from) == (S.completed, None)
    assert [step.content for step in output.step_results] == ["done", "two here", "three here"]
    assert workflow.resume_lost_runs() == []


def test_killed_again_while_resumed(worker: Start, db: Db) -> None:
    """What had finished before the first crash survives the second one, too."""
    one, two, ran = worker(), worker(), list[str]()
    one.start("kept", "r", on_crash="resume")
    first_step_is_stored(db)
    one.kill()
    two.tell("resume", "r")
    assert two.hear("resumed", "r")["runs"] == ["r"]
    two.hear("at", "r")
    two.kill()
    workflow = kept(db, ran)
    assert workflow.resume_lost_runs() == ["r"]
    *_, last = workflow.follow("r")
    assert (last.status, ran) == (S.completed, ["two", "three"])


def test_resumed_and_cancelled_by_its_id(worker: Start, db: Db) -> None:
    """Whoever knew the id before the crash can still stop the run."""
    one, two = worker(), worker()
    one.start("kept", "r", on_crash="resume")
    one.kill()
    two.tell("resume", "r")
    two.hear("at", "r")
    receipt = cancel("r", reason="enough", db=db)
    assert receipt.outcome is Outcome.accepted and receipt.wait(30)
    assert db.get_run("r").cancel.reason == "enough"


def test_two_want_to_resume(worker: Start, db: Db) -> None:
    """A run is taken by one process only."""
    one, two, three = worker(), worker(), worker()
    one.start("kept", "r", on_crash="resume")
    one.kill()
    for other in (two, three):
        other.tell("resume", "r")
    taken = two.hear("resumed", "r")["runs"] + three.hear("resumed", "r")["runs"]
    assert taken == ["r"]
    assert cancel("r", db=db).wait(30)


def test_cancelled_while_nobody_worked_on_it(worker: Start, db: Db) -> None:
    """A request that was made while the worker was down wins over its restart: the run never runs again."""
    other, ran = worker(), list[str]()
    other.start("kept", "r", on_crash="resume")
    other.kill()
    receipt = cancel("r", reason="down", db=db)
    assert (receipt.outcome, receipt.wait(30), receipt.status) == (Outcome.accepted, True, S.cancelled)
    assert kept(db, ran).resume_lost_runs() == []
    assert (db.get_run("r").status, ran) == (S.cancelled, [])


def test_cancelled_before_the_crash(worker: Start, db: Db) -> None:
    """A run that was being cancelled when its process was killed is ended as cancelled, and never runs again."""
    other, ran = worker(), list[str]()
    other.start("deaf", "r", grace=1000.0, on_crash="resume")
    receipt = cancel("r", reason="first", db=db)
    while receipt.status is not S.cancelled and db.get_run("r").cancel.delivered_at is None:
        db.flush()
    other.kill()
    assert receipt.wait(30)
    assert kept(db, ran).resume_lost_runs() == []
    assert (db.get_run("r").status, db.get_run("r").cancel.reason, ran) == (S.cancelled, "first", [])


def test_what_keeps_crashing_is_given_up(worker: Start, db: Db, place: str) -> None:
    """A run that its processes die of isn't begun for ever."""
    other = worker()
    other.start("kept", "r", on_crash="resume")
    db.flush()
    other.kill()
    change(place, "UPDATE desist_runs SET epoch = 6")
    assert kept(db, []).resume_lost_runs() == []
    assert db.end_lost_runs() == ["r"]
    assert db.get_run("r").status is S.error


@pytest.mark.loud
def test_the_workflow_has_changed(worker: Start, db: Db) -> None:
    """A run that can't go on, because its steps are others now, is an error that says so."""
    other = worker()
    other.start("kept", "r", on_crash="resume")
    first_step_is_stored(db)
    other.kill()
    changed = Workflow("W", steps=[Step("another", executor=lambda step_input: "x")], db=db, on_crash="resume")
    assert changed.resume_lost_runs() == ["r"]
    *_, last = changed.follow("r")
    assert last.status is S.error
    assert "step 0 of the workflow is 'another' now" in str(db.get_run("r").error)


def test_ended_when_the_file_is_opened(worker: Start, place: str) -> None:
    """C7: whoever opens the file ends the runs whose process is gone; nobody has to ask for them."""
    other = worker()
    other.start("wait", "r")
    other.kill()
    db = open_db(place)
    db.flush()
    assert statuses(place) == ["ERROR"]
    db.close()


def test_who_can_t_be_woken_looks(worker: Start, db: Db, place: str) -> None:
    """A datagram that doesn't arrive costs time, nothing else: the worker looks into the file by itself."""
    other = worker()
    other.start("wait", "r")
    db.flush()
    change(place, "UPDATE desist_owners SET address = ''")
    assert cancel("r", db=db).wait(30)
    assert other.hear("end", "r")["error"] is None


def test_nothing_is_left_over(place: str) -> None:
    """The thread and the socket that wait for other processes are one for all databases, and end with the last run."""
    with assert_no_leaks(threads=2, fds=1, sockets=1, settle=20):  # the timer thread, the home loop; one socket
        for name in ("a", "b"):
            db = open_db(place if "://" in place else place + name)
            assert Workflow("W", steps=[lambda step_input: "x"], db=db).run("go").status is S.completed
            db.close()


@pytest.mark.parametrize(
    "how", [{"on_crash": "ignore"}, {"on_crash": "resume"}, {"on_crash": "resume", "db": InMemoryDb()}]
)
def test_what_can_t_be_kept_is_refused(how: dict[str, Any]) -> None:
    """A word that isn't known, and a database that can't hold the promise, are errors at once."""
    with pytest.raises(ConfigurationError, match="on_crash="):
        Workflow("W", steps=[lambda step_input: "x"], **how)


def test_only_those_of_a_workflow_that_resumes(db: Db) -> None:
    """Asking a workflow that marks to resume is an error that says what to do."""
    with pytest.raises(ConfigurationError, match='give it on_crash="resume"'):
        Workflow("W", steps=[lambda step_input: "x"], db=db).resume_lost_runs()


@pytest.mark.loud
def test_what_still_lives_here_isn_t_taken_back(db: Db, place: str, caplog: pytest.LogCaptureFixture) -> None:
    """A worker that was taken for dead, whose run's next worker died: it first lets go of the run, then takes it."""
    ran, gate = list[str](), Gate()

    async def two(step_input: Any) -> str:
        await gate.wait()
        return "two here"

    workflow = kept(db, ran, two)
    zombie = workflow.run("go", run_id="mine", stream=True)
    gate.wait_reached()
    db.flush()
    dead = this_process() + "0"  # an earlier process with our id
    change(place, "UPDATE desist_runs SET process = ?, epoch = epoch + 1", dead)
    taken = workflow.resume_lost_runs()
    *_, last = zombie
    assert (last.status, last.cancel.source) == (S.cancelled, Source.lease_lost)
    while not taken:
        taken = workflow.resume_lost_runs()
    gate.open()
    *_, last = workflow.follow("mine")
    assert (last.status, db.get_run("mine").status) == (S.completed, S.completed)
    assert ran == ["one", "two", "two", "three"]
    assert "can't be resumed" not in caplog.text


def test_heard_of_after_all(worker: Start, db: Db) -> None:
    """Whoever took a process for silent, and hears of it before it has ended its run, doesn't say that it ended."""
    other = worker()
    other.start("deaf", "r", grace=1000.0)
    receipt = cancel("r", db=db)
    store: Any = db.store
    with store.backend.reading() as tables:
        row = tables.runs.get("r")
    assert store.runs._end_and_load(row).status is S.cancelling  # as `load_run` calls it once the lease was over
    assert cancel("r", force=True, db=db).wait(30) and receipt.wait(30)


@pytest.mark.loud
def test_the_frozen_worker_is_asked_to_cancel(db: Db, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee 1: a process that wakes with a run which others have ended meanwhile says so, and not `accepted`."""
    monkeypatch.setattr(lease_keeper, "LEASE", 0.0)  # as if this process hadn't looked for longer than that
    gate = Gate()

    async def two(step_input: Any) -> str:
        await gate.wait()
        return "two here"

    zombie = kept(db, [], two).run("go", run_id="mine", stream=True)
    gate.wait_reached()
    db.flush()
    change(place, "UPDATE desist_runs SET process = 'another', epoch = epoch + 1, status = 'COMPLETED'")
    receipt = cancel("mine")
    if receipt.outcome is not Outcome.unknown:  # it had not yet looked by itself, and let go of the run
        assert (receipt.outcome, bool(receipt), receipt.status) == (Outcome.finished, False, S.completed)
    *_, last = zombie
    assert (last.status, last.cancel.source) == (S.cancelled, Source.lease_lost)
    with db.store.backend.reading() as tables:  # type: ignore[attr-defined]  # of a shared store
        assert tables.runs.get("mine").status == "COMPLETED"


@pytest.mark.loud
@pytest.mark.parametrize("meanwhile", ["taken", "cancelled"])
def test_the_frozen_worker_begins_nothing(db: Db, place: str, monkeypatch: pytest.MonkeyPatch, meanwhile: str) -> None:
    """A process that wakes begins no step of a run which others have taken or cancelled meanwhile.

    Its work comes to its turn before the thread that looks does.
    """
    monkeypatch.setattr(lease_keeper, "LEASE", 0.0)  # as if this process hadn't looked for longer than that
    ran, gate = list[str](), Gate()

    async def two(step_input: Any) -> str:
        await gate.wait()
        return "two here"

    zombie = kept(db, ran, two).run("go", run_id="mine", stream=True)
    gate.wait_reached()
    db.flush()
    if meanwhile == "taken":
        change(place, "UPDATE desist_runs SET process = 'another', epoch = epoch + 1")
    else:
        request = CancelRequest(reason=CancelReason(source=Source.user, text="enough"))
        change(place, "UPDATE desist_runs SET cancel = ?", CancelRequestRow.of(request).text_of())
    gate.open()
    *_, last = zombie
    source = Source.lease_lost if meanwhile == "taken" else Source.user
    assert (last.status, last.cancel.source) == (S.cancelled, source)
    assert ran == ["one", "two"]


@pytest.mark.loud
def test_a_heartbeat_that_was_undone(db: Db) -> None:
    """A heartbeat in a transaction that fails through another job is said again: only what is committed counts."""
    store: Any = db.store
    arrived, go = threading.Event(), threading.Event()

    def hold(tables: Any) -> None:
        arrived.set()
        go.wait(30)

    def fail(tables: Any) -> None:
        raise LeaseLostError("another process has it")

    held = store.writer.put(hold)
    assert arrived.wait(30)
    store.writer.put_droppable(store.leases.heartbeat_if_due)  # one transaction with the next
    store.writer.put_droppable(fail)
    go.set()
    held.result(30)
    db.flush()
    with store.backend.reading() as tables:
        assert tables.owners.get(this_process()) is not None


def test_frozen_between_the_claim_and_its_answer(db: Db) -> None:
    """A claim holds since it was written: a process that was frozen before it heard of that looks before it begins."""
    owned = db.store.leases  # type: ignore[attr-defined]  # of a shared store
    owned.on_claimed("r", 1)
    owned.owned.confirm("r", 1, time.monotonic() - lease_keeper.LEASE)
    assert owned.poll_is_overdue
    owned.owned.remove("r")
    owned.on_claimed("r", 1)
    owned.owned.confirm("r", 1, time.monotonic())
    assert not owned.poll_is_overdue
    owned.on_claimed("s", 1)  # beside one that was looked at since
    owned.owned.confirm("s", 1, time.monotonic() - lease_keeper.LEASE)
    assert owned.poll_is_overdue
    owned.owned.remove("r")
    owned.owned.remove("s")


def test_an_end_that_another_process_has_written(db: Db, place: str) -> None:
    """A worker that tries again to write its end, and finds one, knows by the epoch whether that is its own."""
    workflow = Workflow("W", steps=[lambda step_input: "x"], db=db)
    assert workflow.run("go", run_id="mine").status is S.completed
    store: Any = db.store
    run = store.load_run("mine")
    assert store.writer.put(lambda tables: asking.finish_run(tables, run, 1)).result(30) == []
    change(place, "UPDATE desist_runs SET epoch = 2")
    with pytest.raises(LeaseLostError, match="its epoch is 2, and was 1 here"):
        store.writer.put(lambda tables: asking.finish_run(tables, run, 1)).result(30)


def test_cancelled_between_being_taken_and_begun(worker: Start, db: Db) -> None:
    """A run that this process has just taken, and cancels before it has begun it here, isn't begun: it stays ended."""
    other, ran = worker(), list[str]()
    other.start("kept", "r", on_crash="resume")
    first_step_is_stored(db)
    other.kill()
    workflow, store = kept(db, ran), cast(Any, db.store)
    (taken,) = store.take_orphans("workflow", workflow.id)
    receipt = cancel("r", reason="between", db=db)
    assert receipt.wait(30) and receipt.status is S.cancelled
    before = db.get_run("r")
    assert Recovery(workflow)._resume(store, taken, None)  # what resume_lost_runs() does with each
    *_, last = workflow.follow("r")
    assert (last.status, last.cancel.reason) == (S.cancelled, "between")
    while registry.get("r") is not None:
        db.flush()
    assert (db.get_run("r"), ran) == (before, [])
