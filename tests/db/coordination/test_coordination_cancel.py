"""C9: a run of one process is cancelled by another one on the same file, with the same truth."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from coordination_stuck import sql
from database_worker import Worker
from database_worker_program import Db

from desist import Workflow
from desist.cancel.scope import Outcome
from desist.exceptions import LeaseLostError
from desist.run.cancel import cancel
from desist.run.events.base import RunStatus
from desist.testing import LoopbackProvider, Reply

S = RunStatus
Start = Callable[[], Worker]


def test_cancelled_from_another_process(worker: Start, db: Db) -> None:
    """The worker's run stops, tells it once, and is stored; the receipt here is that of a run of one's own."""
    other = worker()
    other.start("half", "r")
    assert db.get_run("r").status is S.running or db.get_run("r").status is S.pending
    receipt = cancel("r", reason="enough", by="me", db=db)
    assert receipt and receipt.outcome is Outcome.accepted
    assert receipt.wait(30)
    told = other.hear("end", "r")
    assert (told["status"], told["source"], told["reason"], told["terminal"]) == ("CANCELLED", "user", "enough", 1)
    assert told["error"] is None
    assert (receipt.status, receipt.reason, receipt.by, receipt.run_id) == (S.cancelled, "enough", "me", "r")
    assert receipt.abandoned == [] and receipt.record is not None
    assert receipt.record.requested_at <= receipt.record.delivered_at <= receipt.settled_at  # type: ignore[operator]
    output = db.get_run("r")
    assert (output.status, output.content, output.cancel.by) == (S.cancelled, "half a story", "me")
    again = cancel("r", reason="again", db=db)
    assert (again.outcome, bool(again), again.wait(30)) == (Outcome.already_cancelled, True, True)
    assert again == receipt


def test_the_provider_sees_it(worker: Start, db: Db) -> None:
    """Guarantee 3: a model call of the worker's is cut off by a cancel in this process."""
    with LoopbackProvider(Reply(tokens=10_000, token_interval=0.005)) as provider:
        other = worker()
        other.start("model", "r", url=provider.base_url)
        workflow = Workflow("W", steps=[lambda given: None], db=db)
        receipt = workflow.cancel("r")
        assert receipt.wait(30)
        exchange = provider.exchanges[0]
        assert exchange.wait_closed(30)
        assert (receipt.status, receipt.upstream_closed) == (S.cancelled, 1)


def test_two_ask_at_once(worker: Start, db: Db) -> None:
    """B3 across processes: of many requests one is recorded, and all receipts say the same."""
    other, third = worker(), worker()
    other.start("wait", "r")
    third.tell("cancel", "r", reason="third", wait=True)
    receipts = [cancel("r", reason=f"no. {number}", db=db) for number in range(5)]
    assert all(receipt.wait(30) for receipt in receipts)
    said = third.hear("cancelled", "r")
    assert said["truth"] and said["settled"] and said["status"] == "CANCELLED"
    assert len({receipt.reason for receipt in receipts}) == 1
    outcomes = [receipt.outcome for receipt in receipts] + [Outcome(said["outcome"])]
    assert outcomes.count(Outcome.accepted) == 1
    assert other.hear("end", "r")["reason"] == receipts[0].reason == db.get_run("r").cancel.reason


def test_too_late(worker: Start, db: Db) -> None:
    """B4 across processes: a run that has completed is left as it is, and the receipt says so."""
    other = worker()
    other.tell("run", "r", kind="quick")
    assert other.hear("end", "r")["status"] == "COMPLETED"
    receipt = cancel("r", db=db)
    assert (receipt.outcome, bool(receipt), receipt.status) == (Outcome.finished, False, S.completed)
    assert receipt.wait(30)
    assert db.get_run("r").status is S.completed


def test_before_it_starts(worker: Start, db: Db) -> None:
    """B5 across processes: an id that nobody knows yet. The run that starts with it elsewhere never begins."""
    receipt = cancel("r", reason="too early", db=db)
    assert (receipt.outcome, bool(receipt)) == (Outcome.unknown, False)
    other = worker()
    other.tell("run", "r", kind="wait")
    told = other.hear("end", "r")
    assert (told["status"], told["reason"], told["error"]) == ("CANCELLED", "too early", None)
    assert db.get_run("r").status is S.cancelled
    other.tell("run", "r", kind="quick")
    assert other.hear("end", "r")["status"] == "COMPLETED", "it was taken once"


def test_forced_and_shortened(worker: Start, db: Db) -> None:
    """A repeated cancel with force ends a long grace, from another process, too."""
    other = worker()
    other.start("deaf", "r", grace=1000.0)
    first = cancel("r", reason="please", db=db)
    other_look = cancel("r", force=True, db=db)
    assert first.wait(30) and other_look.wait(30)
    assert other_look.outcome is Outcome.already_cancelling and other_look == first
    assert [item.kind for item in first.abandoned] == ["thread"]


def test_one_id_in_two_processes(worker: Start, db: Db) -> None:
    """A run that is live in one process isn't begun a second time in another; that one writes nothing."""
    one, two = worker(), worker()
    one.start("half", "r")
    two.tell("run", "r", kind="quick")
    told = two.hear("end", "r")
    assert (told["status"], told["source"]) == ("CANCELLED", "lease_lost")
    assert "owns run r" in told["error"]
    assert not db.get_run("r").status.is_final
    assert cancel("r", db=db).wait(30)
    assert one.hear("end", "r")["error"] is None
    assert db.get_run("r").content == "half a story"


def test_a_killed_worker_s_run_is_ended_by_the_cancel(worker: Start, db: Db) -> None:
    """A run whose process is gone is CANCELLED at once, with what had finished, and that is durable."""
    other = worker()
    other.start("kept", "r")
    while not db.get_run("r").step_results:
        db.flush()
    other.kill()
    receipt = cancel("r", reason="gone", db=db)
    assert (receipt.outcome, receipt.wait(30), receipt.status) == (Outcome.accepted, True, S.cancelled)
    output = db.get_run("r")
    assert (output.status, output.cancel.reason) == (S.cancelled, "gone")
    assert [step.content for step in output.step_results] == ["done"]


def test_races_with_completion(worker: Start, db: Db) -> None:
    """Guarantee 1 across processes: whoever wins, receipt, terminal event and record say the same, every time."""
    other, chance, won = worker(), random.Random(8), Counter[str]()
    for number in range(150):
        run_id = f"race-{number}"
        other.start("wait", run_id)
        receipts: list[Any] = []
        asks = threading.Thread(target=lambda: receipts.append(cancel(run_id, db=db)))  # noqa: B023  # joined
        orders = [lambda: other.tell("open", run_id), asks.start]  # noqa: B023  # at once
        chance.shuffle(orders)
        for order in orders:
            order()
        asks.join(30)
        (receipt,) = receipts
        told = other.hear("end", run_id)
        assert receipt.wait(30)
        assert told["terminal"] == 1 and told["error"] is None
        stored = db.get_run(run_id).status
        assert stored.value == told["status"] == receipt.status.value
        assert bool(receipt) is (stored is S.cancelled)
        won[stored.value] += 1
    print(dict(won))
    assert set(won) <= {"CANCELLED", "COMPLETED"}


def test_a_refused_claim_writes_nothing(worker: Start, db: Db, place: str) -> None:
    """The owner's record stays as it is, whether the owner still works on the run or has ended it by then."""
    owner, other = worker(), worker()
    owner.start("half", "r")
    before = sql(place, ("SELECT process, epoch, output, status FROM desist_runs", ()))
    other.tell("run", "r", kind="quick")
    told = other.hear("end", "r")
    assert "owns run r" in told["error"]
    assert sql(place, ("SELECT process, epoch, output, status FROM desist_runs", ())) == before
    mine = db.store.load_run("r")
    leases: Any = db.store.leases  # type: ignore[attr-defined]  # of a shared store
    assert mine is not None
    mine.process = None
    refused = db.store.claim_run(mine).result(30).refused  # type: ignore[attr-defined]
    assert "owns run r" in str(refused)
    assert cancel("r", reason="enough", db=db).wait(30)
    owner.hear("end", "r")
    mine.status = S.error
    with pytest.raises(LeaseLostError, match="owns run r"):
        db.store.save_run(mine).result(30)  # type: ignore[union-attr]
    assert db.get_run("r").status is S.cancelled
    assert leases.owned.get("r") is None, "nothing is left of it"
