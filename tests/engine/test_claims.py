"""Which runs a worker claims, in which order, and beside which others: on both databases, without workers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_databases import open_db

from desist import RunStatus, Workflow
from desist.cancel.scope import Outcome
from desist.db.coordination import claim_transactions, queue_transactions
from desist.exceptions import ConfigurationError, RunIdInUseError, UnsupportedError
from desist.testing import Gate

S = RunStatus


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]) -> str:
    return new_postgres() if request.param == "postgres" else f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture
def db(url: str) -> Iterator[Any]:
    opened = open_db(url)
    yield opened
    opened.close()


def workflow(db: Any, name: str = "Story") -> Workflow:
    return Workflow(name, steps=[lambda given: given.input], db=db)


def claim(db: Any, *names: str, places: int = 10, ended: list[str] | None = None, due: bool = False) -> list[Any]:
    """Claim runs; return them, opened, and started."""
    batch = db.store.workers.claim_batch(list(names) or ["story"], places, ended or [], due=due)
    return list(batch.runs)


def execute(db: Any, *claimed: Any) -> list[str]:
    """Execute claimed runs to their end; return their inputs."""
    inputs = []
    for one in claimed:
        run = workflow(db, one.run.owner_id).open_from_queue(one).start()
        assert run.settled.wait(30)
        inputs.append(run.body.output.input)
    return inputs


def inputs_of(claimed: list[Any]) -> list[Any]:
    return [one.run.output.input for one in claimed]


def test_order(db: Any) -> None:
    """The highest priority first; then the order of submission, within one call of submit_many, too."""
    story = workflow(db)
    for number, priority in enumerate([0, 5, 0, 5, -1]):
        story.submit(f"{number}", priority=priority)
    story.submit_many(["a", "b", "c"], priority=5)
    claimed = claim(db, places=3) + claim(db)
    assert inputs_of(claimed) == ["1", "3", "a", "b", "c", "0", "2", "4"]
    assert execute(db, *claimed) == inputs_of(claimed)
    assert claim(db) == []


def test_workflows_take_turns(db: Any) -> None:
    """A workflow with many runs leaves places to others; what these don't need is used all the same."""
    many, few = workflow(db, "Many"), workflow(db, "Few")
    many.submit_many([str(number) for number in range(20)])
    few.submit_many(["x", "y", "z"])
    assert sorted(inputs_of(claim(db, "many", "few", places=4))) == ["0", "1", "x", "y"]
    assert sorted(inputs_of(claim(db, "few", "many", places=6))) == ["2", "3", "4", "5", "6", "z"]
    assert len(claim(db, "nothing", "many", places=5)) == 5


def test_other_workflows_are_left_alone(db: Any) -> None:
    """A worker claims runs of its own workflows only."""
    workflow(db, "Other").submit("x")
    assert claim(db, "story") == []
    assert len(claim(db, "other")) == 1


def test_limits_hold_across_workers(db: Any, url: str) -> None:
    """At most so many runs of a workflow are live on all workers, and a new limit holds from the next claim on."""
    story, elsewhere = workflow(db), open_db(url)
    story.submit_many([str(number) for number in range(10)])
    db.set_limit("story", 3)
    first = claim(db, places=2)
    assert len(first) == 2 and len(claim(elsewhere)) == 1 and claim(db) == []
    execute(db, first[0])
    assert len(claim(elsewhere, ended=[first[0].run.run_id])) == 1, "one has ended, so another one is live"
    db.set_limit("story", 5)
    assert len(claim(elsewhere)) == 2
    db.set_limit("story", None)
    assert len(claim(db)) == 4
    (shown,) = db.queue_statistics()
    assert (shown.running, shown.queued, shown.limit) == (9, 0, None)
    elsewhere.close()


def test_a_paused_workflow_gets_no_runs(db: Any) -> None:
    """Nothing is claimed of a paused workflow, visibly, and all of it once it isn't paused."""
    story = workflow(db)
    story.submit("x")
    db.pause_workflow("story")
    assert claim(db) == []
    assert db.queue_statistics()[0].paused
    assert db.queued_runs()[0].words == "waiting for 'story', which is paused"
    db.resume_workflow("story")
    assert inputs_of(claim(db)) == ["x"]


def test_one_key_at_a_time(db: Any) -> None:
    """Runs with one concurrency key are executed one after the other; those without, and other keys, beside them."""
    story = workflow(db)
    for name in ("a1", "a2", "b1", "a3"):
        story.submit(name, concurrency_key=name[0])
    story.submit("free")
    held = [run for run in db.queued_runs() if run.held_by]
    assert [run.words for run in held] == ["waiting for the end of another run with the key 'a'"] * 2
    first = claim(db)
    assert inputs_of(first) == ["a1", "b1", "free"]
    assert claim(db) == []
    execute(db, *first)
    second = claim(db, ended=[one.run.run_id for one in first])
    assert inputs_of(second) == ["a2"]
    execute(db, *second)
    assert inputs_of(claim(db, ended=[second[0].run.run_id])) == ["a3"]


def test_a_key_is_of_its_workflow_and_has_a_limit(db: Any) -> None:
    """A key counts for its workflow only; a higher limit for each key lets held runs go at once."""
    story, other = workflow(db), workflow(db, "Other")
    story.submit_many(["1", "2", "3", "4"], concurrency_key="k")
    other.submit("5", concurrency_key="k")
    assert inputs_of(claim(db, "story", "other")) == ["1", "5"]
    db.set_limit("story", None, per_key=3)
    assert inputs_of(claim(db, "story", "other")) == ["2", "3"]


def test_a_cancelled_run_makes_room_for_its_key(db: Any) -> None:
    """A run that is cancelled while it waits lets the next one with its key go; one that is held ends as well."""
    story = workflow(db)
    first, second, third = (story.submit(name, concurrency_key="k") for name in "123")
    assert first.cancel() and first.status is S.cancelled
    assert third.cancel() and third.status is S.cancelled
    claimed = claim(db)
    assert inputs_of(claimed) == ["2"] and second.status is not S.cancelled
    execute(db, *claimed)
    assert second.status is S.completed
    assert claim(db, ended=[second.run_id]) == []


def test_the_key_of_a_run_whose_worker_died(db: Any) -> None:
    """What ended without its worker leaves the queue, and its key: when any worker looks."""
    story = workflow(db)
    first = story.submit("1", concurrency_key="k")
    story.submit("2", concurrency_key="k")
    execute(db, *claim(db))  # and the worker dies before it says so
    assert first.status is S.completed and claim(db) == []
    db.store.workers.remove_ended()
    assert inputs_of(claim(db)) == ["2"]


def test_deduplicated(db: Any) -> None:
    """While a run with a dedup key waits, a submission gets its handle; once it is claimed, another one may wait."""
    story = workflow(db)
    first, second = story.submit("1", dedup_key="k"), story.submit("2", dedup_key="k")
    other = story.submit("3", dedup_key="l")
    assert first.run_id == second.run_id != other.run_id
    assert inputs_of(claim(db)) == ["1", "3"]
    third, fourth = story.submit("4", dedup_key="k"), workflow(db, "Other").submit("5", dedup_key="k")
    assert third.run_id not in (first.run_id, fourth.run_id)
    assert third.cancel()
    assert story.submit("6", dedup_key="k").run_id != third.run_id, "a cancelled one waits no more"


def test_two_submissions_with_one_key_at_once(db: Any, url: str) -> None:
    """Of submissions at the same time with one dedup key, one is queued; all handles are of that one."""
    ids: list[str] = []
    databases = [open_db(url) for _ in range(4)]
    start = threading.Barrier(4)

    def submit(mine: Any) -> None:
        story = workflow(mine)
        for number in range(10):
            start.wait()
            ids.append(f"{number} {story.submit('x', dedup_key=str(number)).run_id}")

    threads = [threading.Thread(target=submit, args=(mine,)) for mine in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    for mine in databases:
        mine.close()
    assert len(ids) == 40 and len(set(ids)) == 10
    assert len(db.queued_runs()) == 10


def test_later(db: Any) -> None:
    """A run with a delay or a time is claimed when its time has come, not before; it can be cancelled meanwhile."""
    story = workflow(db)
    story.submit("delayed", delay=3600.0)
    story.submit("at", at=4e9)
    gone = story.submit("gone", delay=3600.0)
    story.submit("past", at=1.0)
    assert gone.cancel() and gone.status is S.cancelled
    assert inputs_of(claim(db, due=True)) == ["past"]
    assert all("waiting for its time" in run.words for run in db.queued_runs())
    batch = db.store.workers.claim_batch(["story"], 1, due=True)
    assert batch.runs == [] and 3500 < batch.wait <= 3600
    _let_pass(db, 4000.0)
    assert inputs_of(claim(db, due=True)) == ["delayed"]


def test_a_key_counts_from_the_time_of_a_run(db: Any) -> None:
    """A run for later doesn't hold its key; when its time comes it waits for the key like others."""
    story = workflow(db)
    story.submit("later", delay=3600.0, concurrency_key="k")
    story.submit("now", concurrency_key="k")
    claimed = claim(db, due=True)
    assert inputs_of(claimed) == ["now"]
    _let_pass(db, 4000.0)
    assert claim(db, due=True) == []
    execute(db, *claimed)
    assert inputs_of(claim(db, ended=[claimed[0].run.run_id])) == ["later"]


def _let_pass(db: Any, seconds: float) -> None:
    """Let the times of all scheduled runs be nearer."""

    def work(tables: Any) -> None:
        tables.tx.execute(f"UPDATE {tables.tx.names.queue} SET due_at = due_at - ?", (seconds,))

    db.store.writer.put(work).result()


def test_nothing_is_missed_between_the_last_look_and_the_sleep(db: Any, url: str) -> None:
    """A run that is being added while a worker finds nothing is found by it, or the worker is notified of it."""
    worker = open_db(url)
    worker.store.workers.sign_on(["story"], 60.0, "desist_" + "0" * 20, 10, 0.0)
    adding, added = Gate("adding"), threading.Event()
    notified: list[str] = []

    def slow(tables: Any, new: Any) -> list[str]:
        notified.extend(queue(tables, new))
        adding.wait_blocking()  # before the commit
        return notified

    queue = queue_transactions.queue
    queue_transactions.queue = slow  # type: ignore[assignment]
    try:
        submitting = threading.Thread(target=lambda: (workflow(db).submit("x"), added.set()))
        submitting.start()
        adding.wait_reached()
    finally:
        queue_transactions.queue = queue
    found: list[Any] = []
    looking = threading.Thread(target=lambda: found.append(worker.store.workers.claim_or_wait(["story"], 5)))
    looking.start()
    assert notified == [] and not added.is_set(), "it could not see that the worker is hungry"
    adding.open()
    looking.join(30)
    submitting.join(30)
    assert inputs_of(found[0].runs) == ["x"]
    worker.close()


def test_a_hungry_worker_is_notified(db: Any) -> None:
    """A worker that has found nothing is notified of runs of its workflows, of no others, until it has enough."""
    address = "desist_" + "0" * 20
    db.store.workers.sign_on(["story"], 60.0, address, 10, 0.0)

    def hungry(*names: str) -> Any:
        return db.store.writer.put(lambda tables: tables.workers.notify_hungry(names)).result()

    assert hungry("story") == []
    assert db.store.workers.claim_or_wait(["story"], 5).hungry
    assert hungry("story", "other") == [address] and hungry("other") == []
    db.store.workers.set_sated()
    db.store.flush()
    assert hungry("story") == []


def test_many_at_once(db: Any) -> None:
    """submit_many queues all or none, in order, and gives one handle: progress, results, cancel."""
    story = workflow(db)
    with pytest.raises(ConfigurationError, match="can't be sent"):
        story.submit_many(["a", {1: 2}])
    assert db.queued_runs() == []
    runs = story.submit_many([str(number) for number in range(600)])
    assert len(runs) == 600 and runs.progress() == {S.pending: 600}
    claimed = claim(db, places=3)
    assert inputs_of(claimed) == ["0", "1", "2"]
    execute(db, *claimed)
    receipts = runs.cancel(reason="enough", by="me")
    assert [receipt.outcome for receipt in receipts] == [Outcome.finished] * 3 + [Outcome.accepted] * 597
    assert all(receipt.wait(30) for receipt in receipts[3:])
    assert runs.progress() == {S.completed: 3, S.cancelled: 597}
    outputs = {output.input: output for output in runs.results(30)}
    assert outputs["0"].content == "0" and outputs["7"].cancel.reason == "enough"
    assert [receipt.outcome for receipt in runs.cancel()] == [Outcome.finished] * 3 + [Outcome.already_cancelled] * 597
    assert claim(db) == [] and story.submit_many([]).progress() == {}


def test_many_are_cancelled_and_the_canceller_dies(db: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash between the decision and the ends leaves nothing that could begin: who looks at the runs ends them."""
    runs = workflow(db).submit_many(["a", "b"])
    monkeypatch.setattr("desist.db.store.bulk_cancel._end", lambda tables, *, run_ids: None)
    receipts = runs.cancel(reason="enough")
    assert all(receipts) and claim(db) == []
    assert not {S.pending, S.running} & runs.progress().keys(), "what was decided is said"
    monkeypatch.undo()
    assert [db.get_run(run_id).status for run_id in runs.run_ids] == [S.cancelled, S.cancelled]
    assert all(receipt.wait(30) and receipt.status is S.cancelled for receipt in receipts)


def test_how_many_are_cancelled(db: Any) -> None:
    """Values that mean nothing are refused before anything is cancelled; an event loop isn't blocked."""
    runs = workflow(db).submit_many(["a", "b"])
    for options in ({"grace": -1.0}, {"scope": "forest"}):
        with pytest.raises(ConfigurationError):
            runs.cancel(**options)  # type: ignore[arg-type]

    async def refused() -> None:
        with pytest.raises(RuntimeError, match="await acancel"):
            runs.cancel()
        assert runs.progress() == {S.pending: 2}
        assert all([await receipt is not None for receipt in await runs.acancel(reason="enough", by="me")])

    asyncio.run(refused())
    assert runs.progress() == {S.cancelled: 2}
    assert workflow(db).submit_many([]).cancel() == []


def test_results_as_they_come(db: Any) -> None:
    """Results come in the order of the ends, to async code, too; a wait that is too long is a TimeoutError."""
    story = workflow(db)

    async def read() -> None:
        runs = await story.asubmit_many(["a", "b"])
        first, second = claim(db)
        await asyncio.to_thread(execute, db, second)
        results = runs.aresults()
        assert (await anext(results)).input == "b"
        await asyncio.to_thread(execute, db, first)
        assert (await anext(results)).input == "a"
        with pytest.raises(StopAsyncIteration):
            await anext(results)

    asyncio.run(read())
    late = story.submit_many(["c"])
    with pytest.raises(TimeoutError, match="1 of 1 runs"):
        list(late.results(0.01))


def test_what_is_refused(db: Any) -> None:
    """Values that mean nothing are refused by name, and nothing is queued."""
    story = workflow(db)
    for options, words in (
        ({"priority": "high"}, "priority='high'"),
        ({"priority": True}, "priority=True"),
        ({"delay": -1.0}, "delay=-1"),
        ({"delay": 1.0, "at": 2.0}, "not both"),
        ({"at": "noon"}, "at='noon'"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            story.submit("x", **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no run_id="):
        story.submit_many(["x"], run_id="y")
    with pytest.raises(UnsupportedError, match="colour"):
        story.submit("x", colour="red")  # type: ignore[call-arg]
    for limit in (0, -1, 1.5, True):
        with pytest.raises(ConfigurationError, match="1 or more"):
            db.set_limit("story", limit)
    story.submit("x", run_id="mine")
    with pytest.raises(RunIdInUseError, match="'mine'"):
        story.submit("y", run_id="mine")
    assert len(db.queued_runs()) == 1


def test_a_claim_that_is_not_confirmed_is_undone(db: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is told that its claim failed, although the claim was written, leaves the runs to others."""
    story = workflow(db)
    story.submit_many(["1", "2"])
    real = claim_transactions.claim
    futures: list[Any] = []

    def late(tables: Any, *args: Any, **how: Any) -> Any:
        found = real(tables, *args, **how)
        futures[0].set_exception(db_error)
        return found

    from desist.exceptions import StoreError

    db_error = StoreError("not stored within 1 s")
    put = db.store.writer.put

    def put_first(work: Any, **how: Any) -> Any:
        futures.append(put(work, **how))
        return futures[-1]

    monkeypatch.setattr(claim_transactions, "claim", late)
    gate = Gate("before")
    put(lambda tables: gate.wait_blocking())  # the writer is busy until the future is known
    monkeypatch.setattr(db.store.writer, "put", put_first)
    failed: list[BaseException] = []

    def attempt() -> None:
        try:
            claim(db)
        except StoreError as error:
            failed.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    gate.wait_reached()
    while not futures:
        thread.join(0.01)
    gate.open()
    thread.join(30)
    assert failed == [db_error]
    monkeypatch.undo()
    db.store.flush()
    assert inputs_of(claim(db)) == ["1", "2"]


def test_claims_ends_and_cancels_at_once(db: Any, url: str) -> None:
    """Workers, submitters and cancellers at the same time: each run is executed once or cancelled, keys are kept, no
    transaction waits for another for ever."""
    live: dict[str, int] = {}
    worst: dict[str, int] = {}
    lock, executed = threading.Lock(), list[str]()

    def body(given: Any) -> str:
        key = given.input.split()[0]
        with lock:
            live[key] = live.get(key, 0) + 1
            worst[key] = max(worst.get(key, 0), live[key])
            executed.append(given.input)
        with lock:
            live[key] -= 1
        return "done"

    def story(mine: Any) -> Workflow:
        return Workflow("Story", steps=[body], db=mine)

    databases = [open_db(url) for _ in range(3)]
    handles = [story(db).submit(f"k{number % 5} {number}", concurrency_key=f"k{number % 5}") for number in range(60)]
    done = threading.Event()

    def work(mine: Any) -> None:
        ended: list[str] = []
        while not done.is_set():
            batch = mine.store.workers.claim_batch(["story"], 4, ended, due=True)
            runs = [story(mine).open_from_queue(one).start() for one in batch.runs]
            for run in runs:
                run.settled.wait(30)
            ended = [run.run_id for run in runs]

    def cancel() -> None:
        for handle in handles[::3]:
            handle.cancel()

    threads = [threading.Thread(target=work, args=(mine,)) for mine in databases[:2]]
    threads.append(threading.Thread(target=cancel))
    for thread in threads:
        thread.start()
    for handle in handles:
        assert handle.wait(40), handle.status
    done.set()
    for thread in threads:
        thread.join(40)
    assert len(executed) == len(set(executed)) and max(worst.values()) == 1
    completed = sum(handle.status is S.completed for handle in handles)
    assert completed <= len(executed) and all(handle.status in (S.completed, S.cancelled) for handle in handles)
    for mine in databases:
        mine.close()
