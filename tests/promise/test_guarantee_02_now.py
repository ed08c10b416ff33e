"""Guarantee 2. Now, not at the next piece: a run that waits is out of its wait, whatever it waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from cancel_trial import (
    PATIENCE,
    Journal,
    Mode,
    Trial,
    check_stopped,
    check_three,
    stop_at,
    three_steps,
)
from promise_scenarios import WORDS, waiting_tool

from desist import Agent, Step
from desist.cancel import RunStatus, Source, check_cancelled
from desist.exceptions import ModelError
from desist.models.http.model import HttpModel
from desist.run.records.message import CANCELLED_RESULT
from desist.testing import Call, Gate, LoopbackProvider, Reply, ScriptedModel


@pytest.fixture
def model(model_of_each_api: HttpModel) -> HttpModel:
    return model_of_each_api


def test_a_stall_cancels_by_itself(provider: LoopbackProvider, model: HttpModel, mode: Mode, journal: Journal) -> None:
    """A3: with `stall_timeout` a stalled run ends by itself, with that source, and so does its workflow."""
    provider.set_default(Reply(tokens=WORDS, stall_after=5))
    never: list[str] = []
    agent = Agent(model, name="Talker", db=journal, stall_timeout=0.1)
    trial = Trial(three_steps(Step("talk", agent=agent), journal, never), mode).start().finish()
    assert trial.output.status is RunStatus.cancelled and never == []
    child = next(run_id for run_id, _, _ in journal.saved if run_id != trial.run_id)
    assert journal.last(child)["cancel"]["source"] == Source.stall.value
    assert trial.output.cancel.source is Source.child
    assert "0.1 s" in trial.output.cancel.reason
    provider.wait_open_connections(0, PATIENCE)


def test_back_off_of_a_model(provider: LoopbackProvider, model: HttpModel, mode: Mode, journal: Journal) -> None:
    """A12: while a model call waits for its next try, a cancel ends the wait and no request follows."""
    provider.set_default(Reply(status=429, retry_after=50.0))
    never: list[str] = []
    trial = Trial(three_steps(Step("talk", agent=Agent(model)), journal, never), mode).start()
    receipt = stop_at(trial, lambda: provider.wait_request().wait_over())
    check_stopped(trial, receipt)
    check_three(trial, never)
    assert len(provider.exchanges) == 1


def test_back_off_of_an_agent(mode: Mode, journal: Journal) -> None:
    """A12: the wait between two tries of an agent ends at once, and the model isn't asked again."""
    model = ScriptedModel([ModelError("try later", retryable=True)], repeat=True)
    agent = Agent(model, retries=9, delay_between_retries=50.0, exponential_backoff=True, db=journal)
    never: list[str] = []
    trial = Trial(three_steps(Step("talk", agent=agent), journal, never), mode).start()
    receipt = stop_at(trial, lambda: _until(lambda: len(model.requests) == 1))
    check_stopped(trial, receipt)
    check_three(trial, never)
    assert len(model.requests) == 1


def _until(condition: Callable[[], object]) -> None:
    """Turn until it holds, where the library gives no gate to wait at."""
    import time

    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.001)


@pytest.mark.parametrize("by_id", ["root", "agent"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync-tool", "async-tool"])
def test_a_tool_that_waits(asynchronous: bool, by_id: str, mode: Mode, journal: Journal) -> None:
    """A5: a tool that waits sees the cancel, its `finally` runs, and the model isn't asked again."""
    gate, seen, never = Gate(), [], []
    tool = waiting_tool(asynchronous, gate, seen)
    model = ScriptedModel([["let me see. ", Call(tool.__name__)], "never said"])
    agent = Agent(model, tools=[tool], db=journal)
    trial = Trial(three_steps(Step("ask", agent=agent), journal, never), mode).start()
    receipt = stop_at(trial, gate.wait_reached, by_id)
    check_stopped(trial, receipt)
    check_three(trial, never, lambda text: text == "let me see. ")
    assert seen == ["CancelledError" if asynchronous else "RunCancelled enough", "finally"]
    assert len(model.requests) == 1
    [child] = trial.output.step_executor_runs
    [call] = child.tools
    assert call.cancelled and not call.abandoned and call.result == CANCELLED_RESULT
    assert [message.role for message in child.messages] == ["user", "assistant", "tool"]
    if mode.stream:
        names = [event.event for event in trial.events]
        assert names.count("ToolCallStarted") == 1 and "ToolCallCompleted" not in names


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync-step", "async-step"])
def test_a_function_step_that_waits(asynchronous: bool, mode: Mode, journal: Journal) -> None:
    """A5: the same holds of a function step."""
    gate, seen, never = Gate(), [], []
    wait = waiting_tool(asynchronous, gate, seen)

    async def step(given: Any) -> Any:
        return await wait()

    executor = step if asynchronous else lambda given: wait()
    trial = Trial(three_steps(Step("wait", executor=executor), journal, never), mode).start()
    receipt = stop_at(trial, gate.wait_reached)
    check_stopped(trial, receipt)
    check_three(trial, never)
    assert seen == ["CancelledError" if asynchronous else "RunCancelled enough", "finally"]


def test_a_loop_that_asks(mode: Mode, journal: Journal) -> None:
    """A sync step that calls `check_cancelled()` in its loop is out at its next question."""
    turning, never = threading.Event(), []

    def loop(given: Any) -> None:
        while True:
            turning.set()
            check_cancelled()
            time.sleep(0.001)

    trial = Trial(three_steps(Step("loop", executor=loop), journal, never), mode).start()
    receipt = stop_at(trial, lambda: turning.wait(PATIENCE))
    check_stopped(trial, receipt)
    check_three(trial, never)
    assert receipt.abandoned == []
