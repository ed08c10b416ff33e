"""What waits, who may take it, and what becomes of a run that is being handed over: the decisions, in one process."""

from __future__ import annotations

import asyncio
import datetime as dt
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pydantic
import pytest
from engine_databases import open_db

from desist import RunStatus, Step, StepInput, Workflow
from desist.cancel.reason import CancelReason, Source
from desist.cancel.scope import Outcome
from desist.db import InMemoryDb, JsonDb, SqliteDb
from desist.db.coordination import transactions as asking
from desist.engine import Worker
from desist.exceptions import ConfigurationError, RunIdInUseError, StoreError, UnsupportedError
from desist.run.cancel import acancel_run, cancel, cancel_run
from desist.run.options.budget import Budget
from desist.run.storage.values import CancelRequest
from desist.testing import Gate

S = RunStatus


@pytest.fixture(params=["sqlite", "postgres"])
def db(request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]) -> Iterator[Any]:
    opened = open_db(new_postgres() if request.param == "postgres" else f"sqlite:///{tmp_path}/runs.db")
    yield opened
    opened.close()


@pytest.fixture
def file_db(tmp_path: Path) -> Iterator[Any]:
    opened = open_db(f"sqlite:///{tmp_path}/runs.db")
    yield opened
    opened.close()


class Slow:
    """A workflow whose second step takes its time to be stopped: until it is let on."""

    def __init__(self, db: Any) -> None:
        self.at, self.unwound = Gate("at"), Gate("unwound")
        self.cleaned: list[str] = []

        async def second(given: StepInput) -> str:
            try:
                await self.at.wait()
            finally:
                await self.unwound.wait()
            return "second"

        def clean(output: Any) -> None:
            self.cleaned.append(output.run_id)

        steps = [Step("first", executor=lambda given: "first"), Step("second", executor=second)]
        self.workflow = Workflow("Slow", steps=steps, db=db, on_crash="resume", on_cancel=clean, grace=60.0)

    def begin(self) -> Any:
        """Take a run of it, and wait until it is in its second step."""
        submitted = self.workflow.submit("go")
        taken = self.workflow.store.take_queued(submitted.run_id)  # type: ignore[attr-defined]
        run = self.workflow.open_from_queue(taken).start()
        self.at.wait_reached()
        return run


def test_a_cancel_comes_before_a_parting(db: Any) -> None:
    """A run that is cancelled while it is being handed over ends cancelled: that was said, and it holds."""
    slow = Slow(db)
    run = slow.begin()
    run.ownership.hand_over("leaving")
    slow.unwound.wait_reached()
    receipt = cancel(run.run_id, reason="stop it", db=db)
    assert receipt and receipt.source is Source.user
    assert slow.workflow.cancel_run(run.run_id) is True
    slow.unwound.open()
    assert receipt.wait(30)
    output = db.get_run(run.run_id)
    assert (output.status, output.cancel.reason, slow.cleaned) == (S.cancelled, "stop it", [run.run_id])
    assert db.store.take_queued(run.run_id) is None


def test_a_cancel_of_another_process_comes_before_a_parting(db: Any) -> None:
    """The same for a cancel that was only recorded: when the run is to be given back it is ended instead."""
    slow = Slow(db)
    run = slow.begin()
    run.ownership.hand_over("leaving")
    slow.unwound.wait_reached()
    request = CancelRequest(reason=CancelReason(source=Source.user, text="from afar"))
    db.store.writer.put(lambda tables: asking.request_cancel(tables, run.run_id, request, "")).result()
    slow.unwound.open()
    assert run.settled.wait(30)
    output = db.get_run(run.run_id)
    assert (output.status, output.cancel.reason) == (S.cancelled, "from afar")
    assert [step.step_name for step in output.step_results if step.finished] == ["first"]
    assert db.queued_runs() == []


def test_given_back_and_then_cancelled(db: Any) -> None:
    """A run that was given back isn't this process's: a cancel by its id asks the record, which ends it."""
    slow = Slow(db)
    run = slow.begin()
    run.ownership.hand_over("leaving")
    slow.unwound.open()
    assert run.settled.wait(30)
    assert (db.get_run(run.run_id).status, slow.cleaned) == (S.pending, []), "it isn't over"
    assert cancel_run(run.run_id) is False, "without the database nothing is known of it here"
    receipt = run.cancel(CancelReason(source=Source.user, text="late"))
    assert receipt.outcome is Outcome.accepted and receipt.wait(30)
    assert db.get_run(run.run_id).cancel.reason == "late"


def test_given_back_and_taken_again(db: Any) -> None:
    """What had finished before a parting is taken over; what the process still writes about the run is refused."""
    slow = Slow(db)
    run = slow.begin()
    run.ownership.hand_over("leaving")
    slow.unwound.open()
    assert run.settled.wait(30)
    run.checkpoint("step", run.body.progress.done[0], {"step_id": None})
    db.flush()
    slow.at.open()
    taken = db.store.take_queued(run.run_id)
    assert [step.step_name for step in taken.run.output.step_results] == ["first"]
    assert db.store.take_queued(run.run_id) is None, "it is taken once"
    again = slow.workflow.open_from_queue(taken).start()
    assert again.settled.wait(30) and again.status is S.completed
    db.flush()
    assert [step.step_name for step in db.get_run(run.run_id).step_results] == ["first", "second"]


def test_one_of_many_takes_it(db: Any) -> None:
    """However many want a run at the same moment, and a cancel beside them: one has it, or it is cancelled."""
    workflow = Workflow("W", steps=[lambda given: "x"], db=db)
    for number in range(20):
        submitted = workflow.submit("go")
        taken: list[Any] = []
        start = threading.Barrier(5)

        def want(run_id: str = submitted.run_id, taken: list[Any] = taken, start: threading.Barrier = start) -> None:
            start.wait()
            found = db.store.take_queued(run_id)
            taken.extend([found] if found is not None else [])

        threads = [threading.Thread(target=want) for _ in range(4)]
        for thread in threads:
            thread.start()
        start.wait()
        receipt = submitted.cancel(reason=str(number))
        for thread in threads:
            thread.join(30)
        assert len(taken) <= 1 and receipt
        for found in taken:
            assert workflow.open_from_queue(found).start().settled.wait(30)
        assert receipt.wait(30) and submitted.status is S.cancelled


def test_how_it_was_asked_for_travels(db: Any) -> None:
    """Session, user, state, dependencies, metadata, input and limits arrive as they were given."""
    seen: list[Any] = []

    class Wish(pydantic.BaseModel):
        what: str

    async def look(given: StepInput, run_context: Any) -> str:
        context = run_context
        seen.append((given.input, given.additional_data, context.session_state, context.dependencies, context.metadata))
        return "seen"

    workflow = Workflow("W", steps=[look], db=db, input_schema=Wish)
    submitted = workflow.submit(
        Wish(what="tea"),
        run_id="mine",
        session_id="s",
        user_id="u",
        session_state={"cups": 2},
        dependencies={"shop": ["a"]},
        metadata={"from": "test"},
        additional_data={"hot": True},
        timeout=60,
        budget=Budget(model_calls=1),
    )
    with Worker(workflows=[workflow], db=db):
        output = submitted.result(40)
    assert (output.run_id, output.session_id, output.user_id, output.status) == ("mine", "s", "u", S.completed)
    assert seen == [(Wish(what="tea"), {"hot": True}, {"cups": 2}, {"shop": ["a"]}, {"from": "test"})]
    assert workflow.submitted("mine").status is S.completed


def test_limits_travel(file_db: Any) -> None:
    """A deadline counts while the run waits, a timeout from its start."""
    gate = Gate()

    async def wait(given: StepInput) -> None:
        await gate.wait()

    workflow = Workflow("W", steps=[wait], db=file_db)
    late = workflow.submit("go", deadline=dt.datetime.now(dt.UTC))
    short = workflow.submit("go", timeout=0.01)
    with Worker(workflows=[workflow], db=file_db):
        for submitted in (late, short):
            output = submitted.result(40)
            assert (output.status, output.cancel.source) == (S.cancelled, Source.deadline)


def test_limits_stay_when_it_goes_on_elsewhere(db: Any) -> None:
    """A timeout counts from the first start, whoever goes on with the run."""
    slow = Slow(db)
    submitted = slow.workflow.submit("go", timeout=1000, budget=Budget(model_calls=7))
    run = slow.workflow.open_from_queue(db.store.take_queued(submitted.run_id)).start()
    slow.at.wait_reached()
    (limit,) = run.limits.durable.limits
    run.ownership.hand_over("leaving")
    slow.unwound.open()
    slow.at.open()
    assert run.settled.wait(30)
    again = slow.workflow.open_from_queue(db.store.take_queued(submitted.run_id)).start()
    assert again.limits.durable.limits == [limit] and again.limits.durable.budget == Budget(model_calls=7)
    assert again.settled.wait(30) and again.status is S.completed


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"input": {1: "x"}}, "the key 1 is of type int"),
        ({"input": {"a": [{1, 2}]}}, r"\['a'\]\[0\] is of type set"),
        ({"session_state": {"a": object()}}, r"\['a'\] is of type object"),
        ({"dependencies": {"a": lambda: 1}}, r"\['a'\] is of type function"),
        ({"input": {"a": float("nan")}}, r"\['a'\] is .*float"),
        ({"metadata": {"a": b"x"}}, r"\['a'\] is of type bytes"),
    ],
)
def test_what_can_t_travel_is_refused(file_db: Any, given: dict[str, Any], words: str) -> None:
    """What would arrive as something else is an error that says where it is, and nothing is recorded."""
    workflow = Workflow("W", steps=[lambda given: "x"], db=file_db)
    with pytest.raises(ConfigurationError, match=words):
        workflow.submit(**given)
    assert file_db.queued_runs() == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"on_cancel": print}, "on_cancel=: a function can't be sent to another process"),
        ({"images": ["x"]}, "images=: media can't be sent to another process"),
        ({"budget": Budget(cost=1, price=lambda model, usage: 1.0)}, "price="),
        ({"background": True}, "background"),
    ],
)
def test_options_that_can_t_travel_are_refused(file_db: Any, given: dict[str, Any], words: str) -> None:
    """Options that mean something only in this process are refused by name."""
    workflow = Workflow("W", steps=[lambda given: "x"], db=file_db)
    with pytest.raises(UnsupportedError, match=words):
        workflow.submit("go", **given)


def test_one_id_once(db: Any) -> None:
    """An id that is waiting, live or over can't be submitted again; a cancel that came before it holds."""
    gate = Gate()

    async def wait(given: StepInput) -> None:
        await gate.wait()

    workflow = Workflow("W", steps=[wait], db=db)
    workflow.submit("go", run_id="waits")
    thread = threading.Thread(target=lambda: workflow.run("go", run_id="lives"))
    thread.start()
    gate.wait_reached()
    assert cancel("cancelled", reason="before", db=db).outcome is Outcome.unknown
    assert workflow.submit("go", run_id="cancelled").result(1).cancel.reason == "before"
    for run_id in ("waits", "lives", "cancelled"):
        with pytest.raises(RunIdInUseError, match=run_id):
            workflow.submit("again", run_id=run_id)
    gate.open()
    thread.join(30)
    assert cancel("waits", db=db).wait(30)


def test_taken_too_late(tmp_path: Path) -> None:
    """A run that is taken after whoever wanted it was told that it isn't waits again, and is nobody's."""
    db = SqliteDb(tmp_path / "runs.db", timeout=0.3)
    workflow = Workflow("W", steps=[lambda given: "x"], db=db)
    submitted = workflow.submit("go")
    with closing(sqlite3.connect(tmp_path / "runs.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="did not store this within"):
            db.store.take_queued(submitted.run_id)  # type: ignore[attr-defined]
        other.execute("ROLLBACK")
    while not db.store.writer.flush():  # type: ignore[attr-defined]
        pass
    taken = db.store.take_queued(submitted.run_id)  # type: ignore[attr-defined]
    assert taken is not None and workflow.open_from_queue(taken).start().settled.wait(30)
    assert submitted.status is S.completed
    db.close()


def test_looked_at_before_it_begins(db: Any) -> None:
    """A run that was just taken, and doesn't live yet, isn't taken for one whose end got lost by who looks at it."""
    workflow = Workflow("W", steps=[lambda given: "x"], db=db)
    submitted = workflow.submit("go")
    taken = db.store.take_queued(submitted.run_id)
    assert not db.get_run(submitted.run_id).status.is_final
    assert db.end_lost_runs() == []
    assert taken is not None and workflow.open_from_queue(taken).start().settled.wait(30)
    assert submitted.status is S.completed


def test_what_a_local_run_left_is_gone_on_with(db: Any) -> None:
    """A worker goes on with lost runs of its workflows that were never submitted, too."""
    workflow = Workflow("W", steps=[lambda given: "x"], db=db, on_crash="resume")
    submitted = workflow.submit("go")

    def left_by_the_dead(tables: Any) -> None:
        row = tables.runs.get(submitted.run_id)
        row.process = row.process and "|".join(["gone", "x", "1", "1"])
        tables.runs.put(row)
        tables.tx.execute("DELETE FROM desist_queue WHERE run_id = ?", (row.run_id,))
        tables.owners.heartbeat(row.process, "", -1.0)

    db.store.writer.put(left_by_the_dead).result()
    with Worker(workflows=[workflow], db=db):
        assert submitted.result(40).content == "x"


def test_awaited(file_db: Any) -> None:
    """Async code submits, waits and leaves; the run goes on."""
    gate = Gate()

    async def wait(given: StepInput) -> str:
        await gate.wait()
        return "done"

    workflow = Workflow("W", steps=[wait], db=file_db)

    async def main() -> Any:
        async with Worker(workflows=[workflow], db=file_db):
            submitted = await workflow.asubmit("go")
            with pytest.raises(TimeoutError):
                await submitted.aresult(0.01)
            waiter = asyncio.ensure_future(_of(submitted))
            await asyncio.to_thread(gate.wait_reached)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            assert await acancel_run("unknown", db=file_db) is False
            gate.open()
            return await submitted

    output = asyncio.run(main())
    assert (output.status, output.content) == (S.completed, "done")


async def _of(submitted: Any) -> Any:
    return await submitted


def test_what_a_worker_refuses(file_db: Any, tmp_path: Path) -> None:
    """A database that workers can't share, workflows of another one, and a second worker are errors that say so."""
    workflow = Workflow("W", steps=[lambda given: "x"], db=file_db)
    other = Workflow("W", steps=[lambda given: "x"], db=InMemoryDb())
    for how, words in (
        ({"workflows": [], "db": file_db}, "needs workflows="),
        ({"workflows": [workflow, workflow], "db": file_db}, "have the id 'w'"),
        ({"workflows": [workflow], "db": InMemoryDb()}, "another db= than its Worker"),
        ({"workflows": [other], "db": other.db}, "processes can share"),
        ({"workflows": [Workflow("W", steps=[print])], "db": JsonDb(tmp_path / "json")}, "processes can share"),
        ({"workflows": [workflow], "db": file_db, "limits": {"v": 1}}, "unknown workflow id 'v'"),
        ({"workflows": [workflow], "db": file_db, "limits": {"w": 0}}, "must be 1 or more"),
        ({"workflows": [workflow], "db": file_db, "concurrency": 0}, "concurrency=0"),
        ({"workflows": [workflow], "db": file_db, "drain": -1}, "drain=-1"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            Worker(**how)  # type: ignore[arg-type]
    for unshared in (other, Workflow("W", steps=[lambda given: "x"])):
        with pytest.raises(ConfigurationError, match="needs a database that its workers share"):
            unshared.submit("go")
    with (
        Worker(workflows=[workflow], db=file_db) as first,
        pytest.raises(ConfigurationError, match="already has a worker"),
    ):
        assert first.live == 0
        Worker(workflows=[workflow], db=file_db).start()
    assert workflow.submit("go").status is S.pending


def test_a_worker_leaves_nothing_behind(file_db: Any) -> None:
    """One worker after the other can be started in a process; each takes what the one before left."""
    workflow = Workflow("W", steps=[lambda given: given.input], db=file_db)
    before = {thread.name for thread in threading.enumerate()}
    for number in range(2):
        submitted = workflow.submit(str(number))
        with Worker(workflows=[workflow], db=file_db):
            assert submitted.result(40).content == str(number)
    mine = {thread.name for thread in threading.enumerate()} - before
    assert all(name.startswith("desist-") for name in mine) and "desist-worker" not in mine
    assert file_db.store.workers.other_workers()[0] == []
