"""Claims and ends of many runs in one transaction: each run is decided as if it were alone."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import psycopg
import pytest

from desist import Step, Workflow
from desist.cancel.reason import CancelReason, Source
from desist.db import PostgresDb, SqliteDb
from desist.db.records.cancel_request import CancelRequestRow
from desist.db.tables.sql_runs import RunStatements
from desist.run.events.base import RunStatus
from desist.run.storage.values import CancelRequest
from desist.testing import Gate

S = RunStatus
Db = SqliteDb | PostgresDb


class Held:
    """Runs whose ends wait for the writer together, with a note of the jobs of each transaction."""

    def __init__(self, db: Db, count: int) -> None:
        self.db, self.gate = db, Gate()
        self.store: Any = db.store
        workflow = Workflow("W", steps=[Step("wait", executor=self._wait), Step("two", executor=self._quick)], db=db)
        self.readers = [workflow.run("go", run_id=f"r{number}", session_id="s", stream=True) for number in range(count)]
        for number in range(count):
            self.gate.wait_reached(number + 1)
        db.flush()
        self.transactions: list[int] = []
        write = self.store.backend.write

        def noted(jobs: Sequence[Any]) -> Any:
            self.transactions.append(sum(job.last for job in jobs))
            return write(jobs)

        self.store.backend.write = noted

    async def _wait(self, step_input: Any) -> str:
        await self.gate.wait()
        return "one"

    async def _quick(self, step_input: Any) -> str:
        return "two"

    def end(self, *run_ids: str) -> list[Any]:
        """Let all runs end while the writer is busy, until the ends of these wait; return their terminal events."""
        busy, let_go = threading.Event(), threading.Event()
        self.store.writer.put(lambda tables: busy.set() or let_go.wait(30))
        assert busy.wait(30)
        self.gate.open()
        wanted = set(run_ids) or {f"r{number}" for number in range(len(self.readers))}
        while wanted - {job.work.run_id for job in list(self.store.writer._jobs) if job.last}:
            time.sleep(0.001)
        let_go.set()
        return [list(reader)[-1] for reader in self.readers]


def execute(place: str, statement: str) -> None:
    """Change the database as another process would."""
    if "://" in place:
        with psycopg.connect(place) as server:
            server.execute(statement.encode())
        return
    with closing(sqlite3.connect(place, timeout=30)) as file, file:
        file.execute(statement)


def set_row(place: str, run_id: str, change: str) -> None:
    execute(place, f"UPDATE desist_runs SET {change} WHERE run_id = '{run_id}'")


def test_many_ends_in_one_transaction(db: Db) -> None:
    """Runs that end while the writer is busy are ended by one transaction, with their events and their session."""
    held = Held(db, 20)
    assert [event.status for event in held.end()] == [S.completed] * 20
    assert [ends for ends in held.transactions if ends] == [20]
    for number in range(20):
        run = db.get_run(f"r{number}")
        assert run.status is S.completed and [step.content for step in run.step_results] == ["one", "two"]
        assert [event.is_terminal for event in db.follow(f"r{number}")][-1]
    assert not parts(held.store)


def parts(store: Any) -> list[Any]:
    with store.backend.reading() as tables:
        found: list[Any] = tables.tx.rows("SELECT run_id FROM desist_run_parts")
    return found


@pytest.mark.loud
def test_one_of_them_was_cancelled_and_one_taken_over(db: Db, place: str) -> None:
    """In a batch each run has its own outcome: the cancel that another process has stored, the lost lease, the end."""
    held = Held(db, 4)
    set_row(place, "r1", f"cancel = '{cancel_text()}'")
    set_row(place, "r2", "epoch = 7")
    told = [event.status for event in held.end("r0", "r3")]  # the poll may stop the others first
    assert told == [S.completed, S.cancelled, S.cancelled, S.completed]
    assert (db.get_run("r0").status, db.get_run("r1").status, db.get_run("r3").status) == (
        S.completed,
        S.cancelled,
        S.completed,
    )
    with held.store.backend.reading() as tables:
        (other,) = tables.runs.headers(["r2"])
    assert (other.epoch, other.is_final) == (7, False), "a process that lost the run writes nothing about it"


def cancel_text() -> str:
    """Return a cancel request as its column has it."""
    reason = CancelReason(source=Source.user, text="elsewhere", by="them")
    return CancelRequestRow.of(CancelRequest(reason=reason)).text_of()


@pytest.mark.loud
def test_a_batch_that_the_server_has_ended(new_postgres: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was frozen after its decisions has lost its locks: what nobody contradicts is stored when it
    wakes, and the run that was cancelled meanwhile says that its end isn't stored."""
    url = new_postgres()
    db = PostgresDb(url, timeout=20)
    held = Held(db, 3)
    frozen, end_all = list[bool](), RunStatements.end_all

    def ending(self: Any, rows: Any) -> Any:
        if not frozen:
            frozen.append(True)
            (pid,) = self._tx.rows("SELECT pg_backend_pid()")[0]
            with psycopg.connect(url, autocommit=True) as server:
                server.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
            set_row(url, "r1", f"cancel = '{cancel_text()}'")
        return end_all(self, rows)

    monkeypatch.setattr(RunStatements, "end_all", ending)
    last = held.end()
    assert [event.status for event in last] == [S.completed] * 3, "they had decided"
    errors = [event.run_output.store_error for event in last]
    assert errors[0] is None and errors[2] is None and "cancelled by another process" in errors[1]
    assert [db.get_run(run_id).status for run_id in ("r0", "r2")] == [S.completed] * 2
    with held.store.backend.reading() as tables:
        assert not tables.runs.headers(["r1"])[0].is_final, "its cancel decides"
    db.close()


def patiently(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything wait for the end of the run."""
    monkeypatch.setattr("desist.db.store.claim_service.PATIENCE", 300.0)
    monkeypatch.setattr("desist.db.writer.LINGER", 300.0)
    monkeypatch.setattr("desist.db.events.flusher.FLUSH_INTERVAL", 300.0)


def test_a_quick_run_is_written_once(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends before its claim is written is claimed and ended by one transaction."""
    patiently(monkeypatch)
    store: Any = db.store
    transactions: list[int] = []
    write = store.backend.write

    def noted(jobs: Sequence[Any]) -> Any:
        transactions.append(sum(job.batch is not None for job in jobs))
        return write(jobs)

    store.backend.write = noted

    async def quick(step_input: Any) -> str:
        return "done"

    output = Workflow("W", steps=[Step("a", executor=quick), Step("b", executor=quick)], db=db).run("go")
    assert output.status is S.completed and [jobs for jobs in transactions if jobs] == [2]
    kept = db.get_run(output.run_id)
    assert [step.content for step in kept.step_results] == ["done", "done"]
    assert list(db.follow(output.run_id))[-1].is_terminal and not parts(store)


def test_a_claim_waits_for_a_moment_only(db: Db) -> None:
    """A run that goes on is claimed all the same, and other processes see it."""
    gate = Gate()

    async def wait(step_input: Any) -> str:
        await gate.wait()
        return "done"

    reader = Workflow("W", steps=[wait], db=db).run("go", stream=True)
    store: Any = db.store
    while True:
        with store.backend.reading() as tables:
            if tables.runs.headers([reader.run_id]):
                break
    gate.open()
    assert list(reader)[-1].status is S.completed


def test_a_cancel_that_came_before_a_quick_run(db: Db, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancel of an id that nobody knew yet wins against a run that is claimed and ended by one transaction."""
    patiently(monkeypatch)
    store: Any = db.store

    async def quick(step_input: Any) -> str:
        return "done"

    claim = store.claim_run

    def claimed_late(run: Any, **how: Any) -> Any:
        execute(place, f"INSERT INTO desist_intents VALUES ('{run.run_id}', '{cancel_text()}', {time.time()})")
        return claim(run, **how)

    store.claim_run = claimed_late
    output = Workflow("W", steps=[quick], db=db).run("go")
    assert output.status is S.cancelled and output.cancel.reason == "elsewhere"
    assert db.get_run(output.run_id).status is S.cancelled
