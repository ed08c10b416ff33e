"""The worst moments of a worker between a claim and the start of its runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_databases import open_db

from desist import RunStatus, Workflow
from desist.engine import Worker
from desist.engine.run_executor import RunExecutor
from desist.exceptions import StoreError
from desist.testing import Gate

S = RunStatus


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Any]:
    opened = open_db(f"sqlite:///{tmp_path}/runs.db")
    yield opened
    opened.close()


@pytest.mark.loud
@pytest.mark.parametrize("can_store", [True, False])
def test_one_that_cannot_be_started(db: Any, monkeypatch: pytest.MonkeyPatch, can_store: bool) -> None:
    """A claimed run that can't be started ends as an error, or waits again if that can't be stored; others start."""
    story = Workflow("Story", steps=[lambda given: given.input], db=db)
    submitted = [story.submit(name) for name in ("a", "b", "c")]
    batch = db.store.workers.claim_batch(["story"], 3)
    executor = RunExecutor(db.store, {"story": story}, 3, lambda: None)
    start = Workflow.open_from_queue

    def refuse(self: Workflow, claimed: Any) -> Any:
        if claimed.run.output.input == "b":
            raise RuntimeError("can't start new thread")
        return start(self, claimed)

    def cannot(run_id: str, message: str) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(Workflow, "open_from_queue", refuse)
    if not can_store:
        monkeypatch.setattr(db.store, "fail_claimed_run", cannot)
    executor.begin(batch.runs)
    executor.end_claim()
    assert [submitted[0].result(30).content, submitted[2].result(30).content] == ["a", "c"]
    db.store.flush()
    assert submitted[1].status is (S.error if can_store else S.pending)
    monkeypatch.undo()
    if not can_store:
        (again,) = db.store.workers.claim_batch(["story"], 3).runs
        assert story.open_from_queue(again).start().settled.wait(30)
        assert submitted[1].status is S.completed


def test_stopped_between_a_claim_and_the_next(db: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is stopped while it claims starts those runs first, and hands them over with the others."""
    at = Gate("at")

    async def wait(given: Any) -> None:
        await at.wait()

    story = Workflow("Story", steps=[wait], db=db, on_crash="resume")
    worker = Worker(workflows=[story], db=db, drain=0.0)
    claiming, real = Gate("claiming"), db.store.workers.claim_or_wait

    def slow(owner_ids: Any, places: int) -> Any:
        submitted.append(story.submit("x"))
        found = real(owner_ids, places)
        claiming.wait_blocking()
        return found

    submitted: list[Any] = []
    monkeypatch.setattr(db.store.workers, "claim_or_wait", slow)
    worker.start()
    claiming.wait_reached()
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    while not worker._executor.leaving:
        stopping.join(0.01)
    claiming.open()
    stopping.join(40)
    assert not stopping.is_alive() and worker.live == 0
    assert submitted[0].status is S.pending, "it waits for another worker"
    assert [run.run_id for run in db.queued_runs()] == [submitted[0].run_id]
