"""Connections that break, servers that restart or stay away: what is done is done once, and what is told is true."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal

import pytest
from database_worker import Worker
from postgres_proxy import Wire

from desist import Workflow
from desist.cancel.scope import Outcome
from desist.db import PostgresDb
from desist.exceptions import StoreError
from desist.run.cancel import cancel
from desist.run.events.base import RunStatus
from desist.testing import Gate, LocalPostgres

S = RunStatus
END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'desist'"
CALLED = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%' AND application_name = 'desist'"


def waiting(db: Any, gate: Gate) -> Workflow:
    async def wait(step_input: Any) -> str:
        await gate.wait()
        return "went on"

    return Workflow("W", steps=[lambda step_input: "first", wait], db=db)


@pytest.mark.parametrize("when", ["before", "after"])
def test_cut_at_the_end_of_a_transaction(url: str, when: Literal["before", "after"]) -> None:
    """Whether a commit went through isn't known when its answer is lost: the server is asked, nothing is doubled."""
    with Wire(url) as wire:
        db = PostgresDb(wire.url, timeout=20)
        store: Any = db.store
        counted = threading.Event()

        def add(tables: Any) -> str:
            counted.set()
            tables.tx.execute("INSERT INTO desist_intents VALUES ('x' || (SELECT count(*) FROM desist_intents), '', 0)")
            return "added"

        wire.cut_next_commit(when)
        assert store.writer.put(add).result(20) == "added"
        assert wire.was_cut.wait(20) and counted.is_set()
        with store.backend.reading() as tables:
            assert tables.tx.rows("SELECT run_id FROM desist_intents") == [("x0",)]
        db.close()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cancel_whose_answer_is_lost(
    url: str, workers: Callable[[str], Worker], when: Literal["before", "after"]
) -> None:
    """Cut while the cancel is being recorded: it is accepted once, and its run ends so."""
    other = workers(url)
    other.start("half", "r")
    with Wire(url) as wire:
        db = PostgresDb(wire.url, timeout=20)
        db.flush()
        wire.cut_next_commit(when)
        receipt = cancel("r", reason="enough", db=db)
        assert wire.was_cut.is_set()
        assert receipt.outcome is Outcome.accepted
        assert receipt.wait(30)
        told = other.hear("end", "r")
        assert (told["status"], told["reason"], told["error"]) == ("CANCELLED", "enough", None)
        db.close()


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_end_whose_answer_is_lost(url: str, when: Literal["before", "after"]) -> None:
    """Cut while the end is being written: it is told once it is known to be stored, and it is stored once."""
    with Wire(url) as wire:
        db = PostgresDb(wire.url, timeout=20)
        gate = Gate()
        reader = waiting(db, gate).run("go", run_id="r", session_id="s", stream=True)
        gate.wait_reached()
        db.flush()
        wire.cut_next_commit(when)
        gate.open()
        *_, last = reader
        assert wire.was_cut.is_set()
        assert (last.status, last.run_output.store_error) == (S.completed, None)
        assert db.get_run("r").status is S.completed
        db.close()


def test_connections_that_drop(url: str, db: PostgresDb, workers: Callable[[str], Worker], postgres: Any) -> None:
    """All connections end in mid-run: the run goes on, is stored, and can be cancelled from elsewhere."""
    other, gate = workers(url), Gate()
    other.start("kept", "r")
    reader = waiting(db, gate).run("go", run_id="mine", stream=True)
    gate.wait_reached()
    db.flush()
    ended = postgres.do(END)
    assert len(ended) >= 4, "those of two processes that write, and that listen"
    gate.open()
    *_, last = reader
    assert (last.status, last.run_output.store_error) == (S.completed, None)
    receipt = cancel("r", reason="after all", db=db)
    assert receipt.outcome is Outcome.accepted and receipt.wait(30)
    assert other.hear("end", "r")["error"] is None
    output = db.get_run("r")
    assert (output.status, output.step_results[0].content) == (S.cancelled, "done")


@pytest.mark.parametrize("how", ["fast", "crash"])
def test_the_server_restarts(
    own: LocalPostgres, workers: Callable[[str], Worker], how: Literal["fast", "crash"]
) -> None:
    """Runs go on while the server is away; what they did is stored when it is back, and calls come through again."""
    other, gate = workers(own.url), Gate()
    db = PostgresDb(own.url, timeout=40)
    other.start("half", "r")
    reader = waiting(db, gate).run("go", run_id="mine", stream=True)
    gate.wait_reached()
    db.flush()
    own.stop(how)
    asks: list[Any] = []
    asking = threading.Thread(target=lambda: asks.append(cancel("r", db=db)))
    asking.start()
    gate.open()
    own.start()
    *_, last = reader
    assert (last.status, last.run_output.store_error) == (S.completed, None)
    asking.join(40)
    assert asks[0].outcome is Outcome.accepted and asks[0].wait(30)
    assert other.hear("end", "r")["error"] is None
    assert (db.get_run("r").status, db.get_run("mine").status) == (S.cancelled, S.completed)
    while own.do(CALLED) != [(2,)]:  # both processes listen again
        db.flush()
    other.start("half", "again")
    assert cancel("again", db=db).wait(30)
    db.close()


@pytest.mark.loud
def test_the_server_is_lost(own: LocalPostgres, workers: Callable[[str], Worker]) -> None:
    """Lost for good: runs go on and end, and say that this isn't stored. A cancel from elsewhere is never accepted."""
    other, gate = workers(own.url), Gate()
    db = PostgresDb(own.url, timeout=0.5)
    other.start("half", "r")
    workflow = waiting(db, gate)
    reader = workflow.run("go", run_id="mine", stream=True)
    gate.wait_reached()
    stopped = waiting(db, Gate()).run("go", run_id="stopped", stream=True)
    db.flush()
    own.stop("crash")
    with pytest.raises(StoreError, match=r"postgresql://127\.0\.0\.1:\d+/postgres"):
        cancel("r", db=db)
    receipt = workflow.cancel("stopped", reason="here")
    assert receipt.outcome is Outcome.accepted and receipt.wait(30), "a cancel in one's own process needs no database"
    *_, last = stopped
    assert last.status is S.cancelled and last.run_output.store_error
    gate.open()
    *_, last = reader
    assert last.status is S.completed
    assert "did not store this within 0.5 s" in last.run_output.store_error
    assert db.get_run("mine").status is S.completed, "as far as this process knows"
    with pytest.raises(StoreError, match="no server listens there"):
        db.get_run("nobody's")
    own.start()  # not for good after all: what was owed is stored
    while own.do("SELECT status FROM desist_runs WHERE run_id = 'mine'") != [("COMPLETED",)]:
        try:
            db.flush()
        except StoreError:
            continue
    assert own.do("SELECT status FROM desist_runs WHERE run_id = 'stopped'") == [("CANCELLED",)]
    other.tell("open", "r")
    other.hear("end", "r")
    db.close()
