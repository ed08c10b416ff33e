"""`drive` and `adrive`: a run that another engine has given to this process, at its worst moments."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from drive_program import kept
from engine_databases import open_db

from desist import RunStatus, Step, StepInput, Workflow
from desist.cancel.reason import CancelReason, Source
from desist.cancel.scope import Outcome
from desist.db import InMemoryDb, SqliteDb
from desist.db.coordination import transactions
from desist.engine import DriveOutcome, DriveResult, Worker, adrive, drive
from desist.exceptions import ConfigurationError, StoreError
from desist.run.storage.values import CancelRequest
from desist.testing import Gate

S = RunStatus
PROGRAM = Path(__file__).with_name("drive_program.py")
PATIENCE = 50.0


class Stopped(Exception):
    """What an engine raises in a job that it stops."""


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]) -> str:
    return new_postgres() if request.param == "postgres" else f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture
def db(url: str) -> Iterator[Any]:
    opened = open_db(url)
    yield opened
    opened.close()


@pytest.fixture
def file_db(tmp_path: Path) -> Iterator[Any]:
    opened = open_db(f"sqlite:///{tmp_path}/runs.db")
    yield opened
    opened.close()


def _drive(run_id: str, **how: Any) -> DriveOutcome:
    return drive(run_id, **how)


def _adrive(run_id: str, **how: Any) -> DriveOutcome:
    return asyncio.run(adrive(run_id, **how))


@pytest.fixture(params=[_drive, _adrive], ids=["drive", "adrive"])
def drive_(request: pytest.FixtureRequest) -> Callable[..., DriveOutcome]:
    """Both forms, for sync tests."""
    found: Callable[..., DriveOutcome] = request.param
    return found


class Waiting:
    """A workflow that waits at a gate, and has a hook that cleans up after a cancel."""

    def __init__(self, db: Any, kind: type[Workflow] = Workflow, **how: Any) -> None:
        self.gate = Gate()
        self.cleaned: list[str] = []

        async def wait(given: StepInput) -> str:
            await self.gate.wait()
            return f"{given.input} is done"

        def clean(output: Any) -> None:
            self.cleaned.append(output.run_id)

        self.workflow = kind("Waiting", steps=[wait], db=db, on_cancel=clean, **how)

    def when_reached(self, act: Callable[[], object]) -> threading.Thread:
        def wait() -> None:
            self.gate.wait_reached(timeout=PATIENCE)
            act()

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        return thread


def test_a_run_is_driven_to_its_end(db: Any, drive_: Callable[..., DriveOutcome]) -> None:
    """The call returns when the run has ended and its end is stored; a second call finds nothing to do."""
    workflow = Workflow("W", steps=[lambda given: f"hello, {given.input}"], db=db)
    submitted = workflow.submit("Ann")
    outcome = drive_(submitted.run_id, workflows=[workflow])
    assert (outcome.run_id, outcome.result, outcome.status) == (submitted.run_id, DriveResult.driven, S.completed)
    assert outcome.ended and outcome.output.content == "hello, Ann" == submitted.result(1).content
    again = drive_(submitted.run_id, workflows=[workflow], db=db)
    assert (again.result, again.status) == (DriveResult.nothing_to_do, S.completed)
    assert again.output.content == "hello, Ann" and db.queued_runs() == []


def test_an_error_is_an_outcome(file_db: Any, drive_: Callable[..., DriveOutcome]) -> None:
    """A run that fails has ended: the engine isn't told to repeat its job."""

    def fail(given: StepInput) -> str:
        raise ValueError("no tea")

    workflow = Workflow("W", steps=[Step("fail", executor=fail, on_error="fail", max_retries=0)], db=file_db)
    outcome = drive_(workflow.submit("go").run_id, workflows=[workflow])
    assert (outcome.result, outcome.status) == (DriveResult.driven, S.error)
    assert "no tea" in outcome.output.error


def test_two_drives_at_once(db: Any) -> None:
    """Of many calls for one run, exactly one drives the run, and its step runs once."""
    ran: list[str] = []
    workflow = Workflow("W", steps=[lambda given: ran.append(given.input)], db=db)
    for number in range(10):
        submitted = workflow.submit(str(number))
        outcomes: list[DriveOutcome] = []
        start = threading.Barrier(3)

        def one(
            run_id: str = submitted.run_id,
            outcomes: list[DriveOutcome] = outcomes,
            start: threading.Barrier = start,
        ) -> None:
            start.wait()
            outcomes.append(drive(run_id, workflows=[workflow]))

        threads = [threading.Thread(target=one) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert sorted(outcome.result is DriveResult.driven for outcome in outcomes) == [False, False, True]
        assert all(outcome.ended for outcome in outcomes if outcome.result is not DriveResult.owned_elsewhere)
    assert ran == [str(number) for number in range(10)]


def test_beside_a_worker(db: Any) -> None:
    """A worker and `drive` may want the same run: the claim gives the run to one of them."""
    ran: list[str] = []
    workflow = Workflow("W", steps=[lambda given: ran.append(given.input)], db=db)
    with Worker(workflows=[workflow], db=db):
        for number in range(10):
            submitted = workflow.submit(str(number))
            outcome = drive(submitted.run_id, workflows=[workflow])
            assert submitted.result(PATIENCE).status is S.completed
            assert outcome.ended or outcome.result is DriveResult.owned_elsewhere
    assert ran == [str(number) for number in range(10)]


def test_the_next_run_with_its_key(db: Any, drive_: Callable[..., DriveOutcome]) -> None:
    """When the call returns, the run has left the queue, and the next one with its key waits for nobody."""
    workflow = Workflow("W", steps=[lambda given: "x"], db=db)
    first, second = (workflow.submit("go", concurrency_key="ann") for _ in range(2))
    assert [run.held_by for run in db.queued_runs()] == [None, "ann"]
    assert drive_(first.run_id, workflows=[workflow]).status is S.completed
    assert [(run.run_id, run.held_by) for run in db.queued_runs()] == [(second.run_id, None)]


def test_a_run_that_another_call_has(file_db: Any) -> None:
    """While a call drives the run, another one returns at once, and says that the run hasn't ended."""
    waiting = Waiting(file_db)
    submitted = waiting.workflow.submit("tea")
    found: list[DriveOutcome] = []

    def look() -> None:
        found.append(drive(submitted.run_id, workflows=[waiting.workflow]))
        waiting.gate.open()

    thread = waiting.when_reached(look)
    assert drive(submitted.run_id, workflows=[waiting.workflow]).output.content == "tea is done"
    thread.join(PATIENCE)
    assert (found[0].result, found[0].ended, found[0].status) == (DriveResult.owned_elsewhere, False, S.running)


# -- cancels of the run


def test_a_cancel_of_the_run_is_an_outcome(db: Any, drive_: Callable[..., DriveOutcome]) -> None:
    """A cancel by the id of the run never leaks into the engine: the call returns, with status CANCELLED."""
    waiting = Waiting(db)
    submitted = waiting.workflow.submit("tea")
    thread = waiting.when_reached(lambda: submitted.cancel(reason="enough", by="ann"))
    outcome = drive_(submitted.run_id, workflows=[waiting.workflow])
    thread.join(PATIENCE)
    assert (outcome.result, outcome.status, outcome.ended) == (DriveResult.driven, S.cancelled, True)
    assert outcome.output.cancel.reason == "enough" and waiting.cleaned == [submitted.run_id]


def test_cancelled_before_the_claim(db: Any, drive_: Callable[..., DriveOutcome]) -> None:
    """A run that was cancelled while it waited never begins, whenever the engine's job comes."""
    waiting = Waiting(db)
    submitted = waiting.workflow.submit("tea")
    assert submitted.cancel().wait(PATIENCE)
    outcome = drive_(submitted.run_id, workflows=[waiting.workflow])
    assert (outcome.result, outcome.status) == (DriveResult.nothing_to_do, S.cancelled)
    assert waiting.gate.reached == 0


class CancelledOnOpen(Workflow):
    """Another process, or this one, cancels each run between its claim and its start."""

    elsewhere = False

    def open_from_queue(self, claimed: Any) -> Any:
        run = super().open_from_queue(claimed)
        reason = CancelReason(source=Source.user, text="just now")
        if self.elsewhere:
            request = CancelRequest(reason=reason)
            store: Any = self.store
            store.writer.put(lambda tables: transactions.request_cancel(tables, run.run_id, request, "")).result()
        else:
            run.cancel(reason)
        return run


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
def test_cancelled_between_claim_and_start(elsewhere: bool, db: Any, drive_: Callable[..., DriveOutcome]) -> None:
    """A cancel that comes when the run is claimed and hasn't begun wins: no step runs, the record says CANCELLED."""
    waiting = Waiting(db, CancelledOnOpen)
    waiting.workflow.elsewhere = elsewhere  # type: ignore[attr-defined]
    submitted = waiting.workflow.submit("tea")
    outcome = drive_(submitted.run_id, workflows=[waiting.workflow])
    assert outcome.status is S.cancelled is submitted.status
    assert outcome.output.cancel.reason == "just now" == submitted.result(1).cancel.reason
    assert waiting.gate.reached == 0


def test_cancelled_after_the_end(file_db: Any) -> None:
    """A cancel that comes too late changes neither the record nor what the engine was told."""
    workflow = Workflow("W", steps=[lambda given: "x"], db=file_db)
    submitted = workflow.submit("go")
    assert drive(submitted.run_id, workflows=[workflow]).status is S.completed
    assert submitted.cancel().outcome is Outcome.finished
    assert drive(submitted.run_id, workflows=[workflow]).status is S.completed


# -- the engine stops its job


def test_a_heartbeat_that_raises(db: Any, drive_: Callable[..., DriveOutcome]) -> None:
    """An exception of the heartbeat stops the run: cleaned up and stored as cancelled when the exception goes on."""
    waiting = Waiting(db)
    submitted = waiting.workflow.submit("tea")

    def beat() -> None:
        if waiting.gate.reached:
            raise Stopped("by the engine")

    with pytest.raises(Stopped, match="by the engine"):
        drive_(submitted.run_id, workflows=[waiting.workflow], heartbeat=beat, interval=0.01)
    output = db.get_run(submitted.run_id)
    assert (output.status, output.cancel.source) == (S.cancelled, Source.consumer_closed)
    assert "Stopped" in output.cancel.reason and waiting.cleaned == [submitted.run_id]


def test_heartbeats_are_called(file_db: Any, drive_: Callable[..., DriveOutcome]) -> None:
    """The heartbeat is called again and again, in the calling thread, until the run has ended."""
    waiting = Waiting(file_db)
    threads: list[int] = []

    def beat() -> None:
        threads.append(threading.get_ident())
        if len(threads) == 3:
            waiting.gate.open()

    run_id = waiting.workflow.submit("tea").run_id
    assert drive_(run_id, workflows=[waiting.workflow], heartbeat=beat, interval=0.01).status is S.completed
    assert {*threads} == {threading.get_ident()} and len(threads) >= 3


def test_a_heartbeat_may_be_async(file_db: Any) -> None:
    """An async heartbeat is awaited, on the loop of the caller; a step may wait for what it does."""
    waiting = Waiting(file_db)
    loops: list[Any] = []

    async def beat() -> None:
        loops.append(asyncio.get_running_loop())
        waiting.gate.open()

    async def main() -> None:
        run_id = (await waiting.workflow.asubmit("tea")).run_id
        outcome = await adrive(run_id, workflows=[waiting.workflow], heartbeat=beat, interval=0.01)
        assert outcome.status is S.completed and {*loops} == {asyncio.get_running_loop()}

    asyncio.run(main())


def test_a_cancelled_task(db: Any) -> None:
    """A cancel of the task that awaits `adrive` cancels the run; the task ends when the run has settled."""
    waiting = Waiting(db)

    async def main() -> Any:
        submitted = await waiting.workflow.asubmit("tea")
        task = asyncio.ensure_future(adrive(submitted.run_id, workflows=[waiting.workflow]))
        await asyncio.to_thread(waiting.gate.wait_reached, timeout=PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert waiting.cleaned == [submitted.run_id]
        return db.get_run(submitted.run_id)

    output = asyncio.run(main())
    assert (output.status, output.cancel.source) == (S.cancelled, Source.consumer_closed)


def test_a_task_that_is_cancelled_twice(file_db: Any) -> None:
    """A second cancel of the task doesn't leave a run behind that hasn't settled."""
    waiting, cleaning = Waiting(file_db, grace=PATIENCE), Gate()

    async def clean(output: Any) -> None:
        await cleaning.wait()

    waiting.workflow.on_cancel = clean

    async def main() -> None:
        submitted = await waiting.workflow.asubmit("tea")
        task = asyncio.ensure_future(adrive(submitted.run_id, workflows=[waiting.workflow]))
        await asyncio.to_thread(waiting.gate.wait_reached, timeout=PATIENCE)
        task.cancel()
        await asyncio.to_thread(cleaning.wait_reached, timeout=PATIENCE)
        task.cancel()
        await asyncio.wait({task}, timeout=0.05)
        assert not task.done()
        cleaning.open()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert file_db.get_run(submitted.run_id).status is S.cancelled

    asyncio.run(main())


def test_a_loop_that_ends(file_db: Any) -> None:
    """A coroutine that is closed instead of cancelled has its run cancelled, too."""
    waiting = Waiting(file_db)
    submitted = waiting.workflow.submit("tea")

    async def main() -> None:
        coroutine = adrive(submitted.run_id, workflows=[waiting.workflow])
        coroutine.send(None)
        await asyncio.to_thread(waiting.gate.wait_reached, timeout=PATIENCE)
        coroutine.close()

    asyncio.run(main())
    assert submitted.result(PATIENCE).cancel.source is Source.consumer_closed


def test_a_signal_handler_that_raises(db: Any) -> None:
    """`SystemExit` of a handler, as a task queue ends a task: the run ends with source `shutdown`, then it goes on."""
    waiting = Waiting(db)
    submitted = waiting.workflow.submit("tea")

    def handle(number: int, frame: Any) -> None:
        raise SystemExit(7)

    before = signal.signal(signal.SIGUSR2, handle)
    main = threading.main_thread().ident
    assert main is not None
    thread = waiting.when_reached(lambda: signal.pthread_kill(main, signal.SIGUSR2))
    try:
        with pytest.raises(SystemExit, match="7"):
            drive(submitted.run_id, workflows=[waiting.workflow])
    finally:
        thread.join(PATIENCE)
        signal.signal(signal.SIGUSR2, before)
    output = db.get_run(submitted.run_id)
    assert (output.status, output.cancel.source) == (S.cancelled, Source.shutdown)
    assert "SystemExit" in output.cancel.reason and waiting.cleaned == [submitted.run_id]


class Stopping(Workflow):
    """The engine stops its job between the claim of the run and its start."""

    stop: Callable[[], object]
    stopped: Gate

    def open_from_queue(self, claimed: Any) -> Any:
        self.stop()
        self.stopped.wait_blocking(PATIENCE)
        return super().open_from_queue(claimed)


def test_stopped_between_claim_and_start(db: Any) -> None:
    """A job that is stopped when its run is claimed and hasn't begun: the run ends cancelled, and no step runs."""
    waiting = Waiting(db, Stopping)
    workflow: Any = waiting.workflow
    claimed, workflow.stopped = Gate(), Gate()
    workflow.stop = claimed.open

    def beat() -> None:
        if claimed.is_open:
            threading.Timer(0.05, workflow.stopped.open).start()  # after the exception, or at the same time
            raise Stopped

    submitted = workflow.submit("tea")
    with pytest.raises(Stopped):
        drive(submitted.run_id, workflows=[workflow], heartbeat=beat, interval=0.01)
    output = db.get_run(submitted.run_id)
    assert (output.status, output.cancel.source) == (S.cancelled, Source.consumer_closed)
    assert waiting.gate.reached == 0


# -- the engine shuts down


def test_handed_over(db: Any, drive_: Callable[..., DriveOutcome]) -> None:
    """An engine that shuts down hands a resumable run over: it isn't cancelled, and goes on after its finished step."""
    ran: list[str] = []
    waiting = Waiting(db, on_crash="resume")
    waiting.workflow.steps = [Step("first", executor=lambda given: ran.append("first")), *waiting.workflow.steps]
    submitted = waiting.workflow.submit("tea")

    def beat() -> None:
        if waiting.gate.reached:
            raise Stopped

    with pytest.raises(Stopped):
        drive_(submitted.run_id, workflows=[waiting.workflow], heartbeat=beat, interval=0.01, hand_over=lambda: True)
    assert (submitted.status, waiting.cleaned) == (S.pending, [])
    assert [run.run_id for run in db.queued_runs()] == [submitted.run_id]
    waiting.gate.open()
    assert drive_(submitted.run_id, workflows=[waiting.workflow]).status is S.completed
    assert ran == ["first"]


def test_handed_over_between_claim_and_start(db: Any) -> None:
    """The same at the worst moment: the run is claimed and hasn't begun. It waits again."""
    waiting = Waiting(db, Stopping, on_crash="resume")
    workflow: Any = waiting.workflow
    claimed, workflow.stopped = Gate(), Gate()
    workflow.stop = claimed.open

    def beat() -> None:
        if claimed.is_open:
            threading.Timer(0.05, workflow.stopped.open).start()
            raise Stopped

    submitted = workflow.submit("tea")
    with pytest.raises(Stopped):
        drive(submitted.run_id, workflows=[workflow], heartbeat=beat, interval=0.01, hand_over=lambda: True)
    assert (submitted.status, waiting.gate.reached, waiting.cleaned) == (S.pending, 0, [])
    waiting.gate.open()
    assert drive(submitted.run_id, workflows=[workflow]).status is S.completed


def test_a_cancel_comes_before_a_hand_over(db: Any) -> None:
    """A run that is cancelled while it is being handed over ends cancelled."""
    waiting, unwinding = Waiting(db, on_crash="resume", grace=PATIENCE), Gate()

    async def wait(given: StepInput) -> None:
        try:
            await waiting.gate.wait()
        finally:
            await unwinding.wait()

    waiting.workflow.steps = [Step("wait", executor=wait)]
    submitted = waiting.workflow.submit("tea")

    def cancel_then_unwind() -> None:
        unwinding.wait_reached(timeout=PATIENCE)
        submitted.cancel(reason="enough")
        unwinding.open()

    thread = waiting.when_reached(cancel_then_unwind)

    def beat() -> None:
        if waiting.gate.reached:
            raise Stopped

    with pytest.raises(Stopped):
        drive(submitted.run_id, workflows=[waiting.workflow], heartbeat=beat, interval=0.01, hand_over=lambda: True)
    thread.join(PATIENCE)
    output = submitted.result(PATIENCE)
    assert (output.status, output.cancel.reason, waiting.cleaned) == (S.cancelled, "enough", [submitted.run_id])


def test_what_can_t_be_resumed_is_cancelled(file_db: Any) -> None:
    """A run that no other process could go on with is cancelled instead, and so are all if the engine isn't ending."""
    for how, end in (({}, True), ({"on_crash": "resume"}, False)):
        waiting = Waiting(file_db, **how)
        submitted = waiting.workflow.submit("tea")

        def beat(waiting: Waiting = waiting) -> None:
            if waiting.gate.reached:
                raise Stopped

        with pytest.raises(Stopped):
            drive(
                submitted.run_id,
                workflows=[waiting.workflow],
                heartbeat=beat,
                interval=0.01,
                hand_over=lambda end=end: end,
            )
        assert (submitted.status, waiting.cleaned) == (S.cancelled, [submitted.run_id])


# -- the process ends, the database is gone


def _job(url: str, run_id: str, on_crash: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", str(PROGRAM), url, run_id, on_crash]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _read(job: subprocess.Popen[str], *words: str) -> None:
    assert job.stdout is not None
    for word in words:
        assert job.stdout.readline() == f"{word}\n"


@pytest.mark.parametrize("on_crash", ["resume", "mark"])
def test_killed_in_the_middle(on_crash: str, url: str, db: Any) -> None:
    """A job that is killed: another one goes on after the last finished step, or finds the run ended as an error."""
    workflow = kept(db, on_crash)
    submitted = workflow.submit("go")
    with _job(url, submitted.run_id, on_crash) as first:
        _read(first, "one", "two")
        while on_crash == "resume" and not db.get_run(submitted.run_id).step_results:
            db.flush()
        assert drive(submitted.run_id, workflows=[workflow]).result is DriveResult.owned_elsewhere
        first.kill()
    with _job(url, submitted.run_id, on_crash) as second:
        if on_crash == "mark":
            _read(second, "NOTHING_TO_DO ERROR")
            return
        _read(second, "two")
        assert second.stdin is not None
        print("go on", file=second.stdin, flush=True)
        _read(second, "DRIVEN COMPLETED")
    assert [step.content for step in submitted.result(1).step_results] == ["1", "2"]


@pytest.mark.loud  # it is logged that the end is not stored here
def test_a_lost_lease(db: Any) -> None:
    """A run that another process has taken over is stopped here without an end; the call says who decides now."""
    waiting = Waiting(db)
    submitted = waiting.workflow.submit("tea")

    def take(tables: Any) -> None:
        row = tables.runs.get(submitted.run_id)
        row.process, row.epoch = "elsewhere|x|1|1", row.epoch + 1
        tables.runs.put(row)
        tables.owners.heartbeat(row.process, "", 60.0)

    def lose() -> None:
        db.store.writer.put(take).result()
        db.store.poll_now()

    thread = waiting.when_reached(lose)
    outcome = drive(submitted.run_id, workflows=[waiting.workflow])
    thread.join(PATIENCE)
    assert (outcome.result, outcome.ended, waiting.cleaned) == (DriveResult.owned_elsewhere, False, [])


def test_a_database_that_is_gone_at_the_claim(tmp_path: Path, drive_: Callable[..., DriveOutcome]) -> None:
    """The engine gets an error, for its retry; the run still waits, and a later call drives the run."""
    db = SqliteDb(tmp_path / "runs.db", timeout=0.3)
    workflow = Workflow("W", steps=[lambda given: "x"], db=db)
    submitted = workflow.submit("go")
    with closing(sqlite3.connect(tmp_path / "runs.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="did not store this within"):
            drive_(submitted.run_id, workflows=[workflow])
        other.execute("ROLLBACK")
    while not db.store.writer.flush():  # type: ignore[attr-defined]
        pass
    assert drive_(submitted.run_id, workflows=[workflow]).output.content == "x"
    db.close()


@pytest.mark.loud  # it is logged that the end could not be stored
def test_a_database_that_is_gone_at_the_end(tmp_path: Path, drive_: Callable[..., DriveOutcome]) -> None:
    """An end that isn't stored is an error: an engine that took it for done would lose the end with this process."""
    db = SqliteDb(tmp_path / "runs.db", timeout=0.3)
    waiting = Waiting(db)
    submitted = waiting.workflow.submit("tea")
    with closing(sqlite3.connect(tmp_path / "runs.db", isolation_level=None, check_same_thread=False)) as other:

        def hold() -> None:
            db.flush()
            other.execute("BEGIN IMMEDIATE")
            waiting.gate.open()

        thread = waiting.when_reached(hold)
        with pytest.raises(StoreError, match="its end could not be stored yet"):
            drive_(submitted.run_id, workflows=[waiting.workflow])
        with pytest.raises(StoreError, match="store"):
            drive_(submitted.run_id, workflows=[waiting.workflow])
        thread.join(PATIENCE)
        other.execute("ROLLBACK")
    while db.store.unwritten_end(submitted.run_id) is not None:  # type: ignore[attr-defined]
        db.flush()
    outcome = drive_(submitted.run_id, workflows=[waiting.workflow])
    assert (outcome.result, outcome.status) == (DriveResult.nothing_to_do, S.completed)
    db.close()


@pytest.mark.loud  # it is logged that the end could not be stored
def test_stopped_while_the_database_is_gone(tmp_path: Path, drive_: Callable[..., DriveOutcome]) -> None:
    """The engine's exception goes on within a bounded time, though the database doesn't answer: of a run that begins,
    which still waits then, and of a live one, whose end is stored later."""
    db = SqliteDb(tmp_path / "runs.db", timeout=0.3)
    waiting = Waiting(db)
    submitted = waiting.workflow.submit("tea")
    with closing(sqlite3.connect(tmp_path / "runs.db", isolation_level=None, check_same_thread=False)) as other:

        def stop() -> None:
            raise Stopped

        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Stopped):
            drive_(submitted.run_id, workflows=[waiting.workflow], heartbeat=stop, interval=0.01)
        other.execute("ROLLBACK")
        while not db.store.writer.flush():  # type: ignore[attr-defined]
            pass
        assert (submitted.status, waiting.gate.reached) == (S.pending, 0)

        def stop_later() -> None:
            if waiting.gate.reached:
                db.flush()
                other.execute("BEGIN IMMEDIATE")
                raise Stopped

        with pytest.raises(Stopped):
            drive_(submitted.run_id, workflows=[waiting.workflow], heartbeat=stop_later, interval=0.01)
        other.execute("ROLLBACK")
    assert submitted.result(PATIENCE).status is S.cancelled and waiting.cleaned == [submitted.run_id]
    db.close()


# -- mistakes


@pytest.mark.loud  # it is logged that the run can't be executed
def test_a_run_that_can_t_be_executed(file_db: Any, drive_: Callable[..., DriveOutcome]) -> None:
    """A run whose input this program doesn't accept ends as an error, which is an outcome: a retry would not help."""
    submitted = Workflow("W", steps=[lambda given: "x"], db=file_db).submit("go")
    changed = Workflow("W", steps=[lambda given: "x"], db=file_db, input_schema=int)
    outcome = drive_(submitted.run_id, workflows=[changed])
    assert (outcome.result, outcome.status) == (DriveResult.driven, S.error)
    assert "the run cannot be executed" in submitted.result(1).error


def test_what_is_refused(file_db: Any, tmp_path: Path) -> None:
    """Mistakes of the caller are errors that say what to do; the run still waits."""
    workflow = Workflow("W", steps=[lambda given: "x"], db=file_db)
    other = Workflow("Other", steps=[lambda given: "x"])
    run_id = workflow.submit("go").run_id
    for how, words in (
        ({"run_id": "unknown", "workflows": [workflow]}, "no run 'unknown' in this database: submit it first"),
        ({"workflows": [other], "db": file_db}, "is one of 'w', and drive.. was given 'other'"),
        ({"workflows": []}, "needs workflows="),
        ({"workflows": [workflow], "interval": 0}, "interval=0"),
        ({"workflows": [Workflow("W", steps=[print])]}, "processes share"),
        ({"workflows": [Workflow("W", steps=[print], db=InMemoryDb())]}, "processes share"),
        ({"workflows": [workflow], "db": SqliteDb(tmp_path / "x.db")}, "has another db= than drive"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            drive(**{"run_id": run_id, **how})  # type: ignore[arg-type]
    assert drive(run_id, workflows=[workflow]).status is S.completed
