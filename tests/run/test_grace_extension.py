"""The end of a grace: what may delay it, and for how long."""

from __future__ import annotations

import threading

import pytest

from desist.run.execution import interruption
from desist.workflow import Step, StepInput, Workflow

PATIENCE = 30.0


def test_a_grace_is_not_extended_once_all_work_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose work was interrupted, and whose loops are idle, is settled at the end of its grace.

    The extension for an interruption that is still under way is longer here than the test waits.
    """
    monkeypatch.setattr(interruption, "MAX_EXTENSION", 100 * PATIENCE)
    inside, held = threading.Event(), threading.Lock()
    held.acquire()

    def hang(step_input: StepInput) -> str:
        inside.set()
        held.acquire()  # no exception reaches a thread in here
        return "too late"

    workflow = Workflow("W", steps=[Step("hang", executor=hang, max_retries=0)])
    events = workflow.run("go", stream=True)
    try:
        assert inside.wait(PATIENCE)
        receipt = workflow.cancel(events.run_id, grace=0.01)
        assert receipt.wait(PATIENCE), "the grace was extended though nothing was left to interrupt"
        assert [item.name for item in receipt.abandoned] == ["hang"]
    finally:
        held.release()
        list(events)
