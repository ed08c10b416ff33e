"""The shield: the decision isn't delayed, the interruption is; for its budget; and not against force."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from desist.cancel import check_cancelled, shield
from desist.cancel.receipt import CancelReceipt
from desist.testing import Gate
from desist.workflow import Step, StepInput, Workflow


class Commit:
    """A step that commits under a shield: in async code, or in a thread."""

    def __init__(self, budget: float | None) -> None:
        self.budget = budget
        self.told: list[str] = []
        self.inside, self.gate, self.over = threading.Event(), Gate(), threading.Event()

    async def in_async(self, given: StepInput) -> str:
        try:
            with shield(self.budget):
                self.inside.set()
                await self.gate.wait()
                await asyncio.sleep(0)
                self.told.append("committed")
            self.told.append("left")
            await asyncio.sleep(0)
            self.told.append("went on")
        finally:
            self.over.set()
        return "done"

    def in_thread(self, given: StepInput) -> str:
        try:
            with shield(self.budget):
                self.inside.set()
                self.gate.wait_blocking()
                check_cancelled()
                self.told.append("committed")
            self.told.append("went on")
        finally:
            self.over.set()
        return "done"

    def run(self, how: Callable[..., Any], cancel: Callable[[Workflow, str], CancelReceipt]) -> CancelReceipt:
        workflow = Workflow(steps=[Step("commit", executor=how)], grace=0.05)
        reader = workflow.run("go", stream=True)
        assert self.inside.wait(10)
        receipt = cancel(workflow, reader.run_id)
        assert receipt and receipt.status in ("CANCELLING", "CANCELLED")
        return receipt


@pytest.mark.parametrize("how", ["in_async", "in_thread"])
def test_a_commit_completes_and_then_the_cancel_arrives(how: str) -> None:
    """The block is finished though the grace is over, as its budget says; nothing comes after it."""
    commit = Commit(budget=20)
    receipt = commit.run(getattr(commit, how), lambda workflow, run_id: workflow.cancel(run_id))
    assert receipt.wait(0.15) is False  # three graces
    commit.gate.open()
    assert receipt.wait(10) and receipt.status == "CANCELLED" and receipt.abandoned == []
    assert commit.told in (["committed", "left"], ["committed"]) and commit.over.is_set()


@pytest.mark.parametrize("how", ["in_async", "in_thread"])
def test_the_budget_counts_from_the_cancel(how: str) -> None:
    """However long the block was open before."""
    commit = Commit(budget=0.2)

    def late(workflow: Workflow, run_id: str) -> CancelReceipt:
        assert not commit.over.wait(0.3)
        return workflow.cancel(run_id)

    receipt = commit.run(getattr(commit, how), late)
    assert receipt.wait(0.1) is False
    commit.gate.open()
    assert receipt.wait(10) and receipt.abandoned == [] and "committed" in commit.told


@pytest.mark.parametrize("how", ["in_async", "in_thread"])
def test_a_block_that_overruns_its_budget_is_abandoned(how: str) -> None:
    """The run ends without it, and says so."""
    commit = Commit(budget=0.1)
    receipt = commit.run(getattr(commit, how), lambda workflow, run_id: workflow.cancel(run_id))
    assert receipt.wait(10) and len(receipt.abandoned) == 1
    commit.gate.open()
    assert commit.over.wait(10)


@pytest.mark.parametrize("how", ["in_async", "in_thread"])
@pytest.mark.parametrize("repeated", [False, True])
def test_force_ends_a_shield(how: str, repeated: bool) -> None:
    """At once, or as the second cancel: the budget counts no more."""
    commit = Commit(budget=60)

    def cancel(workflow: Workflow, run_id: str) -> CancelReceipt:
        if repeated:
            workflow.cancel(run_id)
        return workflow.cancel(run_id, force=True)

    receipt = commit.run(getattr(commit, how), cancel)
    assert receipt.wait(10)
    if how == "in_async":
        assert commit.over.wait(10) and commit.told == []
    commit.gate.open()
    assert commit.over.wait(10)


def test_shields_nest() -> None:
    """The inner one's end doesn't let the cancel in."""
    told: list[str] = []
    inside, gate = threading.Event(), Gate()

    async def step(given: StepInput) -> str:
        with shield(20):
            with shield():
                inside.set()
                await gate.wait()
            await asyncio.sleep(0)
            told.append("outer")
        await asyncio.sleep(0)
        return "done"

    workflow = Workflow(steps=[Step("step", executor=step)])
    reader = workflow.run("go", stream=True)
    assert inside.wait(10)
    receipt = workflow.cancel(reader.run_id)
    gate.open()
    assert receipt.wait(10) and told == ["outer"] and receipt.abandoned == []


def test_outside_of_a_run_a_shield_does_nothing() -> None:
    """In threads and in async code."""
    with shield():
        pass

    async def main() -> None:
        with shield(1):
            await asyncio.sleep(0)

    asyncio.run(main())
