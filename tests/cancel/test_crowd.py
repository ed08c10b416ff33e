"""Cancelling very much at once: the decision is at once, whoever has to be interrupted is told meanwhile."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import desist
from desist.calls.thread_call import ThreadCall
from desist.cancel.reason import CancelReason, Source
from desist.cancel.scope import Outcome, Scope
from desist.cancel.status import RunStatus
from desist.cancel.token import CancelToken, check_cancelled, deliver
from desist.db import SqliteDb
from desist.exceptions import RunCancelled
from desist.run.cancel import acancel, cancel
from desist.runtime.helper_threads import HelperThreads, interrupting_helpers
from desist.testing import Gate
from desist.workflow import Parallel, Step, StepInput, Workflow

MANY = 40
USER = CancelReason(source=Source.user)


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    """All threads that interrupt are busy until this is set: nobody is told of a decision."""
    free, busy = threading.Event(), threading.Semaphore(0)

    def hold() -> None:
        busy.release()
        free.wait(30)

    for _ in range(4):
        interrupting_helpers.hand_over(hold)
    for _ in range(4):
        assert busy.acquire(timeout=10)
    yield free
    free.set()


class Crowd:
    """A Parallel of blocking steps. Each, once it is let go, begins something new if nothing keeps it from that."""

    def __init__(self) -> None:
        self.free, self.inside = threading.Event(), threading.Semaphore(0)
        self.began_late: list[str] = []
        steps = [Step(f"s{n}", executor=self._block, max_retries=3) for n in range(MANY)]
        self.workflow = Workflow("crowd", steps=[Parallel("all", *steps), Step("next", executor=self._next)])

    def _block(self, given: StepInput) -> str:
        self.inside.release()
        self.free.wait(30)
        check_cancelled()
        self.began_late.append("went on")
        return "done"

    def _next(self, given: StepInput) -> str:
        self.began_late.append("next step")
        return "done"

    def start(self) -> Any:
        """Return a reader of a run all of whose steps are inside."""
        reader = self.workflow.run("go", stream=True)
        for _ in range(MANY):
            assert self.inside.acquire(timeout=10)
        return reader


def test_nothing_starts_from_the_receipt_on_though_nobody_was_told_yet(stuck: threading.Event) -> None:
    """Forty threads, whoever interrupts is stuck: cancel() answers; what wakes up by itself can't begin anything."""
    crowd = Crowd()
    reader = crowd.start()
    receipt = crowd.workflow.cancel(reader.run_id, grace=30)
    assert receipt.outcome is Outcome.accepted
    assert receipt.record is not None and receipt.record.delivered_at is None
    crowd.free.set()
    assert receipt.wait(20)  # all saw it by themselves
    assert crowd.began_late == []
    assert receipt.status is RunStatus.cancelled and receipt.abandoned == []
    assert receipt.record.requested_at <= receipt.record.delivered_at <= receipt.settled_at  # type: ignore[operator]
    assert [*reader][-1].is_cancelled
    stuck.set()


def test_many_threads_are_interrupted_by_others_than_the_caller() -> None:
    """Forty threads that don't look are out of their locks' reach: sent an exception by helpers, none abandoned."""
    inside, done = threading.Semaphore(0), threading.Event()

    def spin(given: StepInput) -> str:
        inside.release()
        while not done.is_set():
            done.wait(0.01)
        return "done"

    workflow = Workflow("crowd", steps=[Parallel("all", *[Step(f"s{n}", executor=spin) for n in range(MANY)])])
    reader = workflow.run("go", stream=True)
    for _ in range(MANY):
        assert inside.acquire(timeout=10)
    receipt = workflow.cancel(reader.run_id, grace=20)
    assert receipt.wait(20)
    assert receipt.abandoned == []
    done.set()


def test_force_reaches_many(stuck: threading.Event) -> None:
    """A second, forced cancel is handed over, too, and ends the grace: what hasn't ended is named."""
    crowd = Crowd()
    reader = crowd.start()
    first = crowd.workflow.cancel(reader.run_id, grace=30)
    second = crowd.workflow.cancel(reader.run_id, force=True)
    assert second.outcome is Outcome.already_cancelling and second == first
    assert second.wait(20)
    assert len(second.abandoned) == MANY
    crowd.free.set()
    stuck.set()


def test_a_call_that_has_its_thread_after_the_decision_does_not_begin() -> None:
    """A queued call of a run that was cancelled meanwhile is not called, though its own token wasn't told."""
    called: list[str] = []

    async def main() -> ThreadCall:
        scope, token = Scope("r"), CancelToken()
        token.decided = scope
        scope.begin()
        work = ThreadCall(lambda: called.append("called"), "call", None, token.child(), "auto")
        scope.request(USER)
        await asyncio.to_thread(work.run)
        return work

    work = asyncio.run(main())
    assert called == [] and isinstance(work._error, RunCancelled)


def test_tokens_say_so_from_the_decision_on() -> None:
    """A run's token and those below it are cancelled the moment that the run is; who comes later is called at once."""
    scope, token, called = Scope("r"), CancelToken(), []
    token.decided = scope
    middle = token.child()  # kept: a token doesn't hold its children
    below = middle.child()
    below.on_cancel(lambda: called.append("early"))
    scope.request(USER)
    assert token.cancelled and below.cancelled and below.reason is USER
    with pytest.raises(RunCancelled):
        below.check()
    assert called == []  # told by whoever interrupts
    below.on_cancel(lambda: called.append("late"))
    assert called == ["late"] and token.child().cancelled
    assert token.cancel(USER) and not token.cancel(USER)
    assert called == ["late", "early"]


def test_connections_close_before_anything_else_is_told() -> None:
    """What is urgent anywhere in the tree is called before what isn't, and everything once."""
    token, called = CancelToken(), []
    children = [token.child() for _ in range(3)]
    for n, child in enumerate(children):
        child.on_cancel(lambda n=n: called.append(f"later {n}"))  # type: ignore[misc]
        child.on_cancel(lambda n=n: called.append(f"socket {n}"), urgent=True)  # type: ignore[misc]
    token.on_cancel(lambda: called.append("later"))
    forget = token.on_cancel(lambda: called.append("taken back"), urgent=True)
    forget()
    marked = token.mark(USER)
    assert marked is not None and token.mark(USER) is None
    deliver(marked)
    deliver(marked)
    assert sorted(called[:3]) == ["socket 0", "socket 1", "socket 2"]
    assert sorted(called[3:]) == ["later", "later 0", "later 1", "later 2"]


def test_a_tree_may_be_deeper_than_the_stack() -> None:
    """A decision goes down 5,000 runs, children first."""
    top = scope = Scope("0")
    for n in range(1, 5000):
        child = Scope(str(n))
        scope.begin()
        scope.add_child(child)
        scope = child
    hits = top.request(USER).cancelled
    assert [hit.run_id for hit in hits] == [str(n) for n in range(4999, -1, -1)]
    assert [one.run_id for one in top.walk()] == [hit.run_id for hit in hits]


def test_cancel_all_decides_all_before_it_interrupts(stuck: threading.Event) -> None:
    """Forty runs: all are CANCELLING when it returns, though whoever interrupts is stuck."""
    gate = Gate()

    async def wait(given: StepInput) -> str:
        await gate.wait()
        return "done"

    workflow = Workflow("bulk", id="bulk-of-forty", steps=[Step("wait", executor=wait)])
    readers = [workflow.run("go", stream=True) for _ in range(MANY)]
    gate.wait_reached(MANY)
    receipts = desist.cancel_all(workflow_id="bulk-of-forty", reason="enough")
    assert len(receipts) == MANY and all(receipts)
    assert {receipt.status for receipt in receipts} == {RunStatus.cancelling}
    stuck.set()
    assert all(receipt.wait(20) for receipt in receipts)
    assert all([*reader][-1].is_cancelled for reader in readers)


def test_on_a_loop_cancel_refuses_to_ask_a_database(tmp_path: Path) -> None:
    """It says so, names acancel(), and has cancelled nothing; a run of this process is cancelled all the same."""
    db, gate = SqliteDb(str(tmp_path / "runs.db")), Gate()

    async def wait(given: StepInput) -> str:
        await gate.wait()
        return "done"

    workflow = Workflow("w", steps=[Step("wait", executor=wait)], db=db)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="await acancel"):
            cancel("elsewhere", db=db)
        with pytest.raises(RuntimeError, match="await acancel"):
            workflow.cancel_run("elsewhere")
        assert (await acancel("elsewhere", db=db, reason="first")).outcome is Outcome.unknown
        assert not await workflow.acancel_run("elsewhere")
        run = asyncio.ensure_future(workflow.arun("go", run_id="here"))
        await asyncio.to_thread(gate.wait_reached)
        receipt = workflow.cancel("here", reason="now")
        assert receipt.outcome is Outcome.accepted
        assert (await run).status is RunStatus.cancelled

    asyncio.run(main())
    db.close()


def test_a_frozen_database_holds_no_loop(tmp_path: Path) -> None:
    """While another connection has the write lock, acancel() of a run elsewhere waits, and its loop goes on."""
    path = tmp_path / "runs.db"
    db = SqliteDb(str(path))
    db.flush()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")

    async def main() -> Outcome:
        asking = asyncio.ensure_future(acancel("elsewhere", db=db))
        for _ in range(100):
            await asyncio.sleep(0.001)
        assert not asking.done()
        other.execute("ROLLBACK")
        return (await asking).outcome

    assert asyncio.run(main()) is Outcome.unknown
    other.close()
    db.close()


@pytest.mark.loud
def test_helpers_are_few_and_do_all() -> None:
    """A thousand jobs from ten threads: each is done once, by four threads at most, one that fails harms nobody."""
    helpers, lock = HelperThreads("desist-test", 4), threading.Lock()
    did: list[int] = []
    who: set[str] = set()
    all_done = threading.Event()

    def job(n: int) -> None:
        with lock:
            did.append(n)
            who.add(threading.current_thread().name + str(threading.get_ident()))
            if len(did) == 1000:
                all_done.set()
        if n % 100 == 0:
            raise ValueError("expected")

    def put(start: int) -> None:
        for n in range(start, start + 100):
            helpers.hand_over(lambda n=n: job(n))  # type: ignore[misc]

    threads = [threading.Thread(target=put, args=(100 * n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    assert all_done.wait(20)
    assert sorted(did) == list(range(1000)) and len(who) <= 4


@pytest.mark.loud
def test_shared_work_ends_once() -> None:
    """All pieces are done before the last call, which comes once, for none and for many pieces."""
    helpers = HelperThreads("desist-test", 4)
    for count in (0, 1, 500):
        did: list[int] = []
        ends: list[int] = []
        over = threading.Event()

        def last(did: list[int] = did, ends: list[int] = ends, over: threading.Event = over) -> None:
            ends.append(len(did))
            over.set()

        pieces = [lambda n=n, did=did: did.append(n) for n in range(count)]  # type: ignore[misc]
        helpers.hand_over(lambda pieces=pieces, last=last: helpers.share(pieces, last))  # type: ignore[misc]
        assert over.wait(10)
        assert ends == [count]
