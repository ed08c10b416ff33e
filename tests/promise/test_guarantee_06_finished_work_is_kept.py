"""Guarantee 6. Finished work stays finished: what was done and what was said before a cancel is kept."""

from __future__ import annotations

from typing import Any

import pytest
from cancel_trial import (
    Journal,
    Mode,
    Trial,
    check_stopped,
    check_three,
    stop_at,
    three_steps,
)
from promise_scenarios import WORDS, spoken

from desist import Agent, Step, Steps, Workflow
from desist.models.http.model import HttpModel
from desist.testing import Gate, LoopbackProvider, Reply, ScriptedModel


@pytest.fixture
def model(model_of_each_api: HttpModel) -> HttpModel:
    return model_of_each_api


def test_finished_work_stays_finished(mode: Mode, journal: Journal) -> None:
    """B8: steps 1 and 2 stay successes, also inside a container; 3 is cancelled with its text; 4 isn't there."""
    gate, never = Gate(), []
    speaker = Agent(ScriptedModel([["half a ", "sentence", gate]]), name="Speaker", db=journal)
    group = Steps("group", steps=[Step("2a", executor=lambda g: "two a"), Step("2b", agent=speaker), never.append])
    workflow = Workflow(
        "W", steps=[Step("1", executor=lambda given: {"one": 1}), group, Step("4", executor=never.append)], db=journal
    )
    trial = Trial(workflow, mode).start()
    receipt = stop_at(trial, lambda: (gate.wait_reached(), trial.wait_text(2)))
    check_stopped(trial, receipt)
    stored = journal.last(trial.run_id)
    one, two = stored["step_results"]
    assert (one["step_name"], one["content"], one["success"]) == ("1", {"one": 1}, True)
    assert (two["step_name"], two["success"], two["cancelled"]) == ("group", False, True)
    inner = [(step["step_name"], step["content"], step["success"]) for step in two["steps"]]
    assert inner == [("2a", "two a", True), ("2b", "half a sentence", False)]
    assert stored["content"] == "half a sentence" and never == []
    assert stored["cancellation_stage"] == "EXECUTING"


def test_nothing_is_shown_twice_or_lost(
    provider: LoopbackProvider, model: HttpModel, mode: Mode, journal: Journal
) -> None:
    """A stream that stands still was read to its last word: the partial text is all of it, in events and store."""
    provider.set_default(Reply(tokens=WORDS, stall_after=7))
    trial = Trial(Workflow("W", steps=[Agent(model, name="A")], db=journal), mode, stream_events=False).start()
    receipt = stop_at(trial, lambda: spoken(provider, trial, 7))
    check_stopped(trial, receipt)
    if mode.stream:
        assert trial.texts() == WORDS[:7]
        assert trial.output.content == trial.events[-1].content == "".join(WORDS[:7])
        assert [event.event for event in trial.events if event.is_cancelled] == ["WorkflowCancelled"]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync-step", "async-step"])
def test_a_step_that_speaks_piece_by_piece(asynchronous: bool, mode: Mode, journal: Journal) -> None:
    """Of a generator step the pieces that it made are kept, and its `finally` runs."""
    gate, seen, never = Gate(), [], []

    async def pieces(given: Any) -> Any:
        try:
            yield "one "
            yield "two "
            await gate.wait()
            yield "three"
        finally:
            seen.append("finally")

    def pieces_sync(given: Any) -> Any:
        try:
            yield "one "
            yield "two "
            gate.wait_blocking(30)
            yield "three"
        finally:
            seen.append("finally")

    executor = pieces if asynchronous else pieces_sync
    trial = Trial(three_steps(Step("speak", executor=executor), journal, never), mode).start()
    receipt = stop_at(trial, gate.wait_reached)
    check_stopped(trial, receipt)
    check_three(trial, never, lambda text: text == "one two ")
    assert seen == ["finally"]
