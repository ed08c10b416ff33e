"""A5, A12 to A14, B11: tools and function steps that are running, about to run, or retried."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from cancel_trial import PATIENCE, Journal, Mode, Trial, check_stopped, check_three, stop_at, three_steps

from desist import Agent, RunCancelled, Step, Workflow
from desist.cancel import RunStatus, check_cancelled
from desist.cancel import sleep as cancellable_sleep
from desist.run.records.message import CANCELLED_RESULT
from desist.testing import Call, Gate, ScriptedModel, ToolCalls


def waiting_tool(asynchronous: bool, gate: Gate, seen: list[str]) -> Callable[..., Any]:
    """Return a tool that waits at the gate and notes how it was woken."""

    async def fetch() -> str:
        """Fetch."""
        try:
            await gate.wait()
        except asyncio.CancelledError:
            seen.append("CancelledError")
            raise
        finally:
            seen.append("finally")
        return "fetched"

    def fetch_sync() -> str:
        """Fetch."""
        try:
            gate.wait_blocking(30)
        except RunCancelled as cancelled:
            seen.append(f"RunCancelled {cancelled.reason.text}")
            raise
        finally:
            seen.append("finally")
        return "fetched"

    return fetch if asynchronous else fetch_sync


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


def test_a_step_that_is_tried_again(mode: Mode, journal: Journal) -> None:
    """A12: a step cancelled in its second try isn't tried a third time."""
    gate, tries, never = Gate(), [], []

    async def flaky(given: Any) -> str:
        tries.append(1)
        if len(tries) > 1:
            await gate.wait()
        raise OSError("try again")

    trial = Trial(three_steps(Step("flaky", executor=flaky, max_retries=9), journal, never), mode).start()
    receipt = stop_at(trial, gate.wait_reached)
    check_stopped(trial, receipt)
    check_three(trial, never)
    assert len(tries) == 2


@pytest.mark.parametrize("error", [OSError("broken pipe"), TimeoutError(), ValueError("torn")])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync-step", "async-step"])
def test_a_cancel_that_turns_into_an_error(asynchronous: bool, error: Exception, mode: Mode, journal: Journal) -> None:
    """A12, B11: code that answers the cancel with an error of its own is neither tried again nor failed."""
    gate, tries, never = Gate(), [], []

    async def step(given: Any) -> None:
        tries.append(1)
        try:
            await gate.wait()
        except asyncio.CancelledError:
            raise error from None

    def step_sync(given: Any) -> None:
        tries.append(1)
        try:
            gate.wait_blocking(30)
        except RunCancelled:
            raise error from None

    middle = Step("turn", executor=step if asynchronous else step_sync, max_retries=9, on_error="skip")
    trial = Trial(three_steps(middle, journal, never), mode).start()
    receipt = stop_at(trial, gate.wait_reached)
    check_stopped(trial, receipt)
    check_three(trial, never)
    assert len(tries) == 1


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync-tools", "async-tools"])
def test_four_calls_of_one_turn(asynchronous: bool, mode: Mode, journal: Journal) -> None:
    """A13: four calls of one turn: those that run are stopped; none returns, starts again, or lacks a result."""
    gate, seen, never = Gate(), [], []
    tool = waiting_tool(asynchronous, gate, seen)
    calls = ToolCalls(*(Call(tool.__name__, id=f"c{i}") for i in range(4)))
    model = ScriptedModel([calls, "never said"])
    trial = Trial(three_steps(Step("ask", agent=Agent(model, tools=[tool])), journal, never), mode).start()
    receipt = stop_at(trial, lambda: gate.wait_reached(4))
    check_stopped(trial, receipt)
    check_three(trial, never)
    assert gate.reached == 4 and seen.count("finally") == 4 and len(model.requests) == 1
    [child] = trial.output.step_executor_runs
    assert [(m.tool_call_id, m.cancelled) for m in child.messages if m.role == "tool"] == [
        (f"c{i}", True) for i in range(4)
    ]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync-tools", "async-tools"])
def test_the_other_three_calls_do_not_start(asynchronous: bool, mode: Mode, journal: Journal) -> None:
    """A13: if the first of four calls cancels the run, the other three never start.

    In a sync run tools don't share a loop, so the others may have started before: then none of them returns.
    """
    started, never, receipts = [], [], []

    async def first() -> str:
        """Cancel."""
        receipts.append(trial.cancel())
        return "done"

    async def other() -> None:
        """Work."""
        started.append("async")
        await asyncio.sleep(30)

    def other_sync() -> None:
        """Work."""
        started.append("sync")
        cancellable_sleep(30)

    tool = other if asynchronous else other_sync
    calls = ToolCalls(Call("first"), *(Call(tool.__name__, id=f"c{i}") for i in range(3)))
    agent = Agent(ScriptedModel([calls, "never said"]), tools=[first, tool])
    trial = Trial(three_steps(Step("ask", agent=agent), journal, never), mode)
    trial.start().finish()
    assert receipts[0].wait(PATIENCE)
    check_stopped(trial, receipts[0])
    check_three(trial, never)
    [child] = trial.output.step_executor_runs
    assert [call.cancelled for call in child.tools] == [True] * 4 and len(child.messages) == 6
    if mode.asynchronous:
        assert started == []
        if mode.stream:
            assert [e.event for e in trial.events].count("ToolCallStarted") == 1


def test_ten_turns(mode: Mode, journal: Journal) -> None:
    """A14: a loop of ten turns, cancelled in the second, makes no further model call."""
    gate, calls, never = Gate(), [], []

    async def work(number: int) -> str:
        """Work."""
        calls.append(number)
        if len(calls) == 2:
            await gate.wait()
        return f"did {number}"

    model = ScriptedModel([Call("work", {"number": n}) for n in range(10)])
    trial = Trial(three_steps(Step("ask", agent=Agent(model, tools=[work])), journal, never), mode).start()
    receipt = stop_at(trial, gate.wait_reached)
    check_stopped(trial, receipt)
    check_three(trial, never)
    assert calls == [0, 1] and len(model.requests) == 2
    [child] = trial.output.step_executor_runs
    assert [(call.result, call.cancelled) for call in child.tools] == [("did 0", False), (CANCELLED_RESULT, True)]
    assert child.messages[-1].cancelled and not child.messages[-3].cancelled


@pytest.mark.parametrize("where", ["sync tool", "async tool", "sync step", "async step"])
def test_code_that_raises_run_cancelled(where: str, mode: Mode, journal: Journal) -> None:
    """B11: `RunCancelled` raised by a tool or step cancels the run; retries and on_error="skip" don't swallow it."""
    calls, never = [], []

    def give_up(*given: Any) -> str:
        """Give up."""
        calls.append(1)
        raise RunCancelled("I give up")

    async def give_up_async(*given: Any) -> str:
        """Give up."""
        return give_up()

    def tool() -> str:
        """Give up."""
        return give_up()

    async def async_tool() -> str:
        """Give up."""
        return give_up()

    if "tool" in where:
        one = async_tool if "async" in where else tool
        agent = Agent(ScriptedModel([Call(one.__name__)], repeat=True), tools=[one], retries=3, delay_between_retries=0)
        middle = Step("middle", agent=agent, on_error="skip", max_retries=3)
    else:
        executor = give_up_async if "async" in where else give_up
        middle = Step("middle", executor=executor, on_error="skip", max_retries=3)
    trial = Trial(three_steps(middle, journal, never), mode).start().finish()
    assert trial.error is None and trial.output.status is RunStatus.cancelled
    assert trial.output.cancel.reason == "I give up"
    check_three(trial, never)
    assert len(calls) == 1


def test_a_tool_that_swallows_the_cancel(mode: Mode, journal: Journal) -> None:
    """A tool that catches the cancellation and goes on is cancelled again, and starts nothing."""
    gate, woken, never = Gate(), [], []

    async def stubborn() -> str:
        """Go on."""
        while True:
            try:
                await gate.wait()
            except asyncio.CancelledError:
                woken.append(1)
                if len(woken) == 2:
                    return "at last"

    model = ScriptedModel([Call("stubborn"), "never said"])
    workflow: Workflow = three_steps(Step("ask", agent=Agent(model, tools=[stubborn])), journal, never)
    workflow.grace = 1.0
    trial = Trial(workflow, mode).start()
    receipt = stop_at(trial, gate.wait_reached)
    check_stopped(trial, receipt)
    check_three(trial, never)
    assert len(woken) == 2 and len(model.requests) == 1 and receipt.abandoned == []
