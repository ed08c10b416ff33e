"""Guarantee 4. No new work: after an accepted cancel no model call, tool call, retry or step starts."""

from __future__ import annotations

import asyncio
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
    stop_at,
    three_steps,
)
from promise_scenarios import waiting_tool

from desist import Agent, RunCancelled, Step, Workflow
from desist.cancel import RunStatus
from desist.cancel import sleep as cancellable_sleep
from desist.run.records.message import CANCELLED_RESULT
from desist.testing import Call, Gate, ScriptedModel, ToolCalls


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


SHOWN = [(mode, events) for mode in MODES for events in ((False, True) if mode.stream else (False,))]


@pytest.mark.parametrize("cancelled", [False, True], ids=["to the end", "cancelled"])
def test_showing_does_not_change_doing(cancelled: bool) -> None:
    """B12: however a run is called and shown, it does the same work, and a cancel stops the same work."""
    stories = [_work_done(mode, stream_events, cancelled) for mode, stream_events in SHOWN]
    assert all(story == stories[0] for story in stories), stories
    assert stories[0][-1] == ("CANCELLED" if cancelled else "COMPLETED")
    assert len(stories[0]) == (7 if cancelled else 9)


def _work_done(mode: Mode, stream_events: bool, cancelled: bool) -> list[str]:
    """Run a workflow; return what it did, in order."""
    done: list[str] = []
    gate = Gate()

    async def look_up(word: str) -> str:
        """Look up."""
        done.append(f"tool {word}")
        return "found"

    def turn(name: str, made: Any) -> Any:
        def asked(request: Any) -> Any:
            done.append(f"request {name}, {len(request.messages)} messages")
            return made

        return asked

    model = ScriptedModel(
        [turn("one", ["so ", Call("look_up", {"word": "x"})]), turn("two", ["it ", "is ", gate, "x"]), turn("3", "bye")]
    )
    agent = Agent(model, name="A", tools=[look_up])
    steps = [
        Step("first", executor=lambda given: done.append("step first")),
        Step("talk", agent=agent),
        Step("last", executor=lambda given: done.append("step last")),
        Step("bye", agent=agent),
    ]
    trial = Trial(Workflow("W", steps=steps), mode, stream_events=stream_events).start()
    gate.wait_reached()
    if cancelled:
        assert trial.cancel().wait(PATIENCE)
    gate.open()
    trial.finish()
    assert trial.error is None
    output = trial.runner.get_run(trial.run_id)
    done.append(f"{len(output.step_results)} results")
    done.append(str(output.content)[:3])
    return [*done, output.status.value]
