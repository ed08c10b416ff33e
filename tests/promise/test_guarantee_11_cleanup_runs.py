"""Guarantee 11. Cleanup runs, and is bounded: hooks and compensations of steps inside containers, time-outs, a second
cancel, and a cancel while something else is going wrong.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from cancel_trial import PATIENCE, Journal, Mode, Trial, check_stopped, three_steps
from event_grammar import check_grammar
from promise_scenarios import Deaf, let_go
from step_ends import Ends

from desist import Condition, Loop, Parallel, Router, Step, StepInput, StepOutput, Steps, Workflow
from desist.testing import Gate

BOXES: dict[str, Any] = {
    "steps": lambda inner: Steps("box", steps=inner),
    "parallel": lambda inner: Parallel("box", Steps("inside", steps=inner)),
    "loop": lambda inner: Loop(inner, "box", max_iterations=1),
    "condition": lambda inner: Condition(inner, name="box"),
    "router": lambda inner: Router(inner, lambda given, step_choices: step_choices, "box"),
    "workflow": lambda inner: Workflow("box", steps=inner),
    "workflow in a workflow": lambda inner: Workflow("box", steps=[Workflow("deep", steps=inner)]),
}


class Tale:
    """Steps that can be undone, and that tell what was done and undone."""

    def __init__(self) -> None:
        self.gate, self.told = Gate(), list[str]()

    def step(self, name: str) -> Step:
        def undo(output: StepOutput) -> None:
            self.told.append(f"undo {name}{' that was cut off' if output.cancelled else ''}")

        def hook(output: StepOutput) -> None:
            self.told.append(f"hook of {name}")

        async def work(given: StepInput) -> str:
            self.told.append(name)
            if name == "stop":
                await self.gate.wait()
            return name

        return Step(name, executor=work, compensate=undo, on_cancel=hook)


@pytest.mark.parametrize("kind", BOXES)
@pytest.mark.parametrize("where", ["inside", "after"])
def test_steps_in_containers_are_undone(kind: str, where: str, mode: Mode, journal: Journal) -> None:
    """C4: cancelled with compensations, what had begun is undone once each, the last first, also in containers and
    nested workflows that are through; the hook of the interrupted step alone is called."""
    tale = Tale()
    inner = [tale.step("two"), tale.step("stop" if where == "inside" else "three")]
    steps = [tale.step("one"), BOXES[kind](inner), tale.step("never" if where == "inside" else "stop")]
    trial = Trial(Workflow("W", steps=steps, db=journal), mode).start()
    tale.gate.wait_reached()
    receipt = trial.cancel(compensate=True, grace=PATIENCE)
    assert receipt.wait(PATIENCE)
    trial.finish()
    done = ["one", "two", *(["three"] if where == "after" else []), "stop"]
    undone = [f"undo {name}{' that was cut off' if name == 'stop' else ''}" for name in reversed(done)]
    assert tale.told == [*done, "hook of stop", *undone]


def test_a_nested_workflow_has_a_timeout(mode: Mode, journal: Journal) -> None:
    """`Step(workflow=..., timeout=...)`: its run ends CANCELLED (`deadline`), the step fails, the rest runs."""
    gate = Gate()

    async def wait(given: StepInput) -> None:
        await gate.wait()

    inner = Workflow("Inner", steps=[wait], db=journal)
    step = Step("slow", workflow=inner, timeout=0.05, max_retries=0)
    after = Step("after", executor=lambda given: "after")
    trial = Trial(Workflow("W", steps=[step, after], db=journal), mode).start().finish()
    stored = journal.last(trial.run_id)
    assert stored["status"] == "COMPLETED" and stored["content"] == "after"
    assert "took longer than its timeout of 0.05 s" in stored["step_results"][0]["error"]
    [child] = {run_id for run_id, _, _ in journal.saved} - {trial.run_id}
    assert journal.last(child)["cancel"]["source"] == "deadline"
    if mode.stream:
        check_grammar(trial.events, trial.run_id)


def test_cancelled_while_siblings_are_being_stopped(mode: Mode, journal: Journal) -> None:
    """A branch has failed, another still cleans up; a cancel now wins: the run ends CANCELLED, the failure is kept."""
    gate, cleaning, may_end = Gate(), Gate(), threading.Event()

    async def stubborn(given: StepInput) -> None:
        while not may_end.is_set():
            try:
                await (cleaning if gate.is_open else gate).wait()
            except asyncio.CancelledError:
                gate.open()

    def bad(given: StepInput) -> None:
        gate.wait_reached()
        raise ValueError("it broke")

    failing = Step("bad", executor=bad, on_error="fail", max_retries=0)
    never: list[Any] = []
    steps = [Parallel("P", Steps("S", steps=[stubborn, never.append]), failing), never.append]
    trial = Trial(Workflow("W", steps=steps, db=journal), mode)
    with Ends() as ends:
        trial.start()
        cleaning.wait_reached()
        receipt = trial.cancel(grace=PATIENCE)
        may_end.set()
        cleaning.open()
        assert receipt.wait(PATIENCE)
        trial.finish()
    check_stopped(trial, receipt)
    assert never == [] and ends.ended == []
    branches = {step["step_name"]: step for step in journal.last(trial.run_id)["step_results"][0]["steps"]}
    assert branches["bad"]["error"] == "it broke" and branches["S"]["cancelled"]
    if mode.stream:
        check_grammar(trial.events, trial.run_id)


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
    let_go(deaf)
