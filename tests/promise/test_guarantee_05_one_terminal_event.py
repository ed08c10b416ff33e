"""Guarantee 5. One terminal event, last: it is emitted after the work is gone, and stored before it is shown."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import pytest
from cancel_trial import (
    MODES,
    PATIENCE,
    Journal,
    Mode,
    Trial,
    check_stopped,
    check_three,
    three_steps,
)
from promise_scenarios import Deaf, let_go

from desist import Agent, Step, Workflow
from desist.calls.abandoned_threads import abandoned_threads
from desist.cancel import RunStatus, Source
from desist.run.records.message import CANCELLED_RESULT
from desist.testing import Call, Gate, ScriptedModel


@pytest.mark.parametrize("stream_events", [False, True], ids=["", "all-events"])
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode.stream], ids=str)
def test_a_consumer_that_returns_at_the_first_cancelled_event(
    mode: Mode, stream_events: bool, journal: Journal
) -> None:
    """B7: who leaves at the first "cancelled" finds the run stored and complete, and no flag is left behind."""
    model = ScriptedModel([["some ", "text ", Gate()], "second run"])
    workflow = Workflow("W", steps=[lambda given: "one", Agent(model, name="A", db=journal)], db=journal)
    options = {"stream": True, "stream_events": stream_events, "run_id": uuid.uuid4().hex}

    def look(event: Any) -> Any:
        """Cancel from the consumer's own loop; return what is stored once "cancelled" is seen."""
        if event.event == "RunContent" and event.content == "text ":
            assert workflow.cancel_run(event.run_id)
        return workflow.get_run(options["run_id"]) if event.is_cancelled else None

    def read() -> Any:
        for event in workflow.run("go", **options):
            if (stored := look(event)) is not None:
                return stored
        raise AssertionError("no cancelled event")

    async def aread() -> Any:
        async for event in workflow.arun("go", **options):
            if (stored := look(event)) is not None:
                return stored
        raise AssertionError("no cancelled event")

    stored = asyncio.run(aread()) if mode.asynchronous else read()
    assert stored.status is RunStatus.cancelled and stored.content == "some text "
    assert stored.cancel.source is Source.user and stored.cancel.settled_at
    assert [step["success"] for step in stored.step_results] == [True, False]
    assert workflow.run("again", run_id=options["run_id"]).status is RunStatus.completed


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
    assert "self._items.get(timeout=30)" in given_up.blocked_in
    [child] = trial.output.step_executor_runs
    assert child.tools[0].abandoned and child.tools[0].result == CANCELLED_RESULT
    before = journal.last(trial.run_id)
    assert len(abandoned_threads()) == 1
    let_go(deaf)
    assert journal.last(trial.run_id) == before and "late result" not in str(before)
    assert len(model.requests) == 1
