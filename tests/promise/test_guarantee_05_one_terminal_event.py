"""B2: tools and steps that Python can't interrupt: they are waited for, then named as abandoned."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cancel_trial import PATIENCE, Journal, Mode, Trial, check_stopped, check_three, three_steps

from desist import Agent, Step
from desist.calls.thread_pool import abandoned_calls
from desist.cancel import RunStatus
from desist.run.records.message import CANCELLED_RESULT
from desist.testing import Call, ScriptedModel


class Deaf:
    """Blocks its thread where Python can't interrupt it from outside, until the test lets it go."""

    def __init__(self) -> None:
        self.entered, self.release, self.left = threading.Event(), threading.Event(), threading.Event()

    def block(self) -> str:
        self.entered.set()
        try:
            self.release.wait(30)
        finally:
            self.left.set()
        return "late result"

    def wait_entered(self) -> None:
        assert self.entered.wait(PATIENCE)


@pytest.fixture
def deaf() -> Iterator[Deaf]:
    deaf = Deaf()
    yield deaf
    deaf.release.set()  # also if the test has failed


@pytest.mark.parametrize("by_id", ["root", "agent"])
def test_a_deaf_tool(by_id: str, deaf: Deaf, mode: Mode, journal: Journal) -> None:
    """B2: while a deaf tool has its grace, everybody reads CANCELLING; then it is abandoned, by name."""
    never: list[str] = []

    def stubborn() -> str:
        """Block."""
        return deaf.block()

    model = ScriptedModel([Call("stubborn"), "never said"])
    agent = Agent(model, tools=[stubborn], db=journal)
    workflow = three_steps(Step("ask", agent=agent), journal, never)
    workflow.grace = 0.3
    trial = Trial(workflow, mode).start()
    deaf.wait_entered()
    begun = time.monotonic()
    receipt = trial.cancel(by_id)
    assert time.monotonic() - begun < 0.2
    assert receipt and receipt.status is RunStatus.cancelling
    assert RunStatus.cancelled not in journal.statuses(trial.run_id)
    assert not any(event.is_cancelled for event in list(trial.events))
    assert receipt.wait(PATIENCE)
    assert time.monotonic() - begun >= 0.29
    trial.finish()
    check_stopped(trial, receipt)
    check_three(trial, never)
    [given_up] = receipt.abandoned
    assert (given_up.name, given_up.kind) == ("stubborn", "thread")
    assert "release.wait(30)" in given_up.blocked_in
    [child] = trial.output.step_executor_runs
    assert child.tools[0].abandoned and child.tools[0].result == CANCELLED_RESULT
    before = journal.last(trial.run_id)
    assert len(abandoned_calls()) == 1
    _let_go(deaf)
    assert journal.last(trial.run_id) == before and "late result" not in str(before)
    assert len(model.requests) == 1


def _let_go(deaf: Deaf) -> None:
    deaf.release.set()
    assert deaf.left.wait(PATIENCE)
    limit = time.monotonic() + PATIENCE
    while abandoned_calls():
        assert time.monotonic() < limit
        time.sleep(0.001)


def test_a_tool_that_ends_within_the_grace(deaf: Deaf, mode: Mode, journal: Journal) -> None:
    """B2: a sync tool that ends by itself within the grace isn't abandoned, and its result is dropped."""
    never: list[str] = []
    workflow = three_steps(Step("deaf", executor=lambda given: deaf.block()), journal, never)
    workflow.grace = 20.0
    trial = Trial(workflow, mode).start()
    deaf.wait_entered()
    receipt = trial.cancel()
    assert receipt.status is RunStatus.cancelling and not receipt.wait(0.05)
    assert RunStatus.cancelled not in journal.statuses(trial.run_id)
    deaf.release.set()
    assert receipt.wait(PATIENCE)
    trial.finish()
    check_stopped(trial, receipt)
    check_three(trial, never)
    assert receipt.abandoned == [] and "late result" not in str(journal.last(trial.run_id))


@pytest.mark.parametrize("how", [{"force": True}, {"grace": 0.02}], ids=["force", "shorter grace"])
def test_a_second_cancel_shortens_the_grace(how: dict[str, Any], deaf: Deaf, mode: Mode, journal: Journal) -> None:
    """A second cancel with `force` or a shorter grace ends the wait; the first reason stays."""
    never: list[str] = []
    workflow = three_steps(Step("deaf", executor=lambda given: deaf.block()), journal, never)
    workflow.grace = 60.0
    trial = Trial(workflow, mode).start()
    deaf.wait_entered()
    first = trial.cancel()
    assert not first.wait(0.05)
    second = trial.cancel(reason="hurry", by="you", **how)
    assert second and second == first
    assert first.wait(PATIENCE)
    trial.finish()
    check_stopped(trial, first)
    assert len(first.abandoned) == 1
    _let_go(deaf)
