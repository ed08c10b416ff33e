"""Guarantee 1. One decision: cancel and completion compete, one of them wins, and every receipt says which."""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
import uuid
from collections import Counter
from typing import Any

import pytest
from cancel_trial import (
    PATIENCE,
    Journal,
    Mode,
    Trial,
    check_stopped,
    three_steps,
)

from desist import Agent, Step, Workflow, cancel_run
from desist.cancel import CancelReceipt, Outcome, RunStatus
from desist.exceptions import ModelError
from desist.run.cancellation_management import acancel_run
from desist.testing import Gate, ScriptedModel

RACES = 2_500  # in each of the four modes


class Race:
    """Runs that end by themselves at the instant at which another thread cancels them."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.workflow = Workflow("Race", steps=[self._step], db=Journal())
        self.receipts: dict[str, CancelReceipt] = {}
        self.outcomes: dict[str, tuple[list[Any], RunStatus]] = {}
        self._begun: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._canceller = threading.Thread(target=self._cancel_all)

    async def _step(self, given: Any, run_context: Any) -> str:
        self._begun.put(run_context.run_id)
        chance = hash(run_context.run_id)
        for _ in range(chance % 4):
            await asyncio.sleep(0)
        _spin(chance % 600)
        return "done"

    def _cancel_all(self) -> None:
        for number in itertools.count():
            run_id = self._begun.get()
            if run_id is None:
                return
            _spin(number * 7919 % 600)
            self.receipts[run_id] = self.workflow.cancel(run_id, reason="race")

    def run(self, count: int) -> None:
        self._canceller.start()
        ids = [uuid.uuid4().hex for _ in range(count)]
        if self.mode.asynchronous:
            asyncio.run(self._run_async(ids))
        else:
            for run_id in ids:
                self._keep(run_id, self.workflow.run("go", run_id=run_id, stream=self.mode.stream))
        self._begun.put(None)
        self._canceller.join()

    async def _run_async(self, ids: list[str]) -> None:
        for run_id in ids:
            running = self.workflow.arun("go", run_id=run_id, stream=self.mode.stream)
            self._keep(run_id, [event async for event in running] if self.mode.stream else await running)

    def _keep(self, run_id: str, made: Any) -> None:
        if self.mode.stream:
            events = list(made)
            ends = [event for event in events if event.is_terminal]
            self.outcomes[run_id] = (ends, ends[-1].status)
            assert events[-1] is ends[-1]
        else:
            self.outcomes[run_id] = ([made], made.status)


def _spin(turns: int) -> None:
    for _ in range(turns):
        pass


def test_races(mode: Mode) -> None:
    """B1: of 10,000 runs that are cancelled as they complete, each has one end, one stored end, and both keep
    the receipt's word."""
    race = Race(mode)
    race.run(RACES)
    journal = race.workflow.db
    stored: dict[str, list[RunStatus]] = {}
    for run_id, status, _ in journal.saved:
        if status.is_final:
            stored.setdefault(run_id, []).append(status)
    seen: Counter[str] = Counter()
    for run_id, receipt in race.receipts.items():
        ends, status = race.outcomes[run_id]
        assert len(ends) == 1 and stored[run_id] == [status]
        assert bool(receipt) == (status is RunStatus.cancelled), receipt
        assert receipt.status is status and receipt.wait(5)
        seen[receipt.outcome.value] += 1
    assert sum(seen.values()) == RACES and set(seen) == {"accepted", "finished"}, seen


def test_fifty_cancels_at_once(mode: Mode, journal: Journal) -> None:
    """B3: fifty threads cancel with fifty reasons: one record, the first; one event; fifty equal receipts."""
    gate, never, receipts = Gate(), [], []
    agent = Agent(ScriptedModel([["partial ", gate]]), name="A")
    trial = Trial(three_steps(Step("talk", agent=agent), journal, never), mode).start()
    gate.wait_reached()
    barrier = threading.Barrier(50)

    def ask(number: int) -> None:
        barrier.wait()
        receipts.append(trial.runner.cancel(trial.run_id, reason=f"reason {number}", by=f"user {number}"))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [first] = [receipt for receipt in receipts if receipt.outcome is Outcome.accepted]
    assert first.wait(PATIENCE)
    trial.finish()
    assert all(receipts) and len(set(receipts)) == 1
    number = first.reason.split()[1]
    check_stopped(trial, first, reason=f"reason {number}", by=f"user {number}")


@pytest.mark.parametrize("failing", [False, True], ids=["completed", "error"])
def test_a_cancel_that_comes_too_late(failing: bool, mode: Mode, journal: Journal) -> None:
    """B4: of a run that has ended otherwise the receipt says so, and nothing changes."""
    turn = ModelError("no") if failing else "the end"
    trial = Trial(Agent(ScriptedModel([turn]), db=journal), mode).start().finish()
    status = RunStatus.error if failing else RunStatus.completed
    assert trial.output.status is status
    before = list(journal.saved)
    receipt = trial.cancel()
    assert not receipt and (receipt.outcome, receipt.status) == (Outcome.finished, status)
    assert receipt.wait(5) and receipt.source is None and receipt.settled_at is None and receipt.abandoned == []
    assert journal.saved == before and trial.output.status is status and trial.output.cancel is None
    assert not cancel_run(trial.run_id) and not asyncio.run(acancel_run(trial.run_id))
