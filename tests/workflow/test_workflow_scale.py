"""Large workflows: many steps, stopped in the middle."""

from __future__ import annotations

from typing import Any

import pytest
from cancel_trial import PATIENCE, Journal, Mode, Trial

from desist import Condition, Parallel, Router, Step, StepInput, Steps, Workflow
from desist.testing import Gate

MANY = 10_000
BOXES: dict[str, Any] = {
    "workflow": lambda steps: steps,
    "steps": lambda steps: [Steps("box", steps=steps)],
    "condition": lambda steps: [Condition(steps, name="box")],
    "router": lambda steps: [Router(steps, lambda given, step_choices: step_choices, "box")],
    "nested": lambda steps: [Workflow("box", steps=steps)],
    "branch": lambda steps: [Parallel("p", Steps("box", steps=steps), lambda given: "beside")],
}


@pytest.mark.parametrize("kind", BOXES)
def test_ten_thousand_steps_stopped_in_the_middle(kind: str, journal: Journal) -> None:
    """Cancelled in step 5,000 of 10,000: 5,000 are kept as done, one as interrupted, none of the rest has begun."""
    gate, ran = Gate(), []

    async def step(given: StepInput) -> int:
        ran.append(1)
        if len(ran) == MANY // 2 + 1:
            await gate.wait()
        return len(ran)

    workflow = Workflow("W", steps=BOXES[kind]([Step(f"s{n}", executor=step) for n in range(MANY)]), db=journal)
    trial = Trial(workflow, Mode(asynchronous=True, stream=False)).start()
    gate.wait_reached(timeout=5 * PATIENCE)
    receipt = trial.cancel()
    assert receipt.wait(10 * PATIENCE)
    trial.finish(10 * PATIENCE)
    outputs = journal.last(trial.run_id)["step_results"]
    while len(outputs) < MANY // 2:
        [outputs] = [one["steps"] for one in outputs if one.get("steps")]
    assert [output["content"] for output in outputs[:-1]] == list(range(1, MANY // 2 + 1))
    assert outputs[-1]["cancelled"] and len(outputs) == len(ran) == MANY // 2 + 1
