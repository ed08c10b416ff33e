"""C6: limits end a run as cancelled, each with its own source; timeouts of a tool or step are errors of that alone."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable
from typing import Any

import pytest
from hanging_server import PATIENCE

from desist import Agent, Step, Workflow, tool
from desist.cancel import RunStatus, Source
from desist.exceptions import ConfigurationError
from desist.run.options.budget import Budget
from desist.testing import Call, Gate, ScriptedModel, ToolCalls

faces = pytest.mark.parametrize("face", ["run", "arun"])


def do(runner: Any, face: str, **how: Any) -> Any:
    return runner.run("go", **how) if face == "run" else asyncio.run(runner.arun("go", **how))


def waiting_step(kind: str) -> Step:
    gate = Gate()

    async def wait(_: Any) -> None:
        await gate.wait()

    if kind == "async":
        return Step("wait", executor=wait)
    if kind == "sync":
        return Step("wait", executor=lambda _: gate.wait_blocking(PATIENCE))
    return Step("wait", agent=Agent(ScriptedModel([["some ", gate]]), name="A"))


def soon(seconds: float = 0.05) -> dt.datetime:
    return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)


@faces
@pytest.mark.parametrize("kind", ["sync", "async", "agent"])
@pytest.mark.parametrize(
    ("own", "how", "words"),
    [
        ({"timeout": 0.05}, dict, "the timeout of workflow 'w' of 0.05 s is over"),
        ({}, lambda: {"timeout": 0.05}, "the timeout of this run of 0.05 s is over"),
        ({}, lambda: {"deadline": soon()}, "the deadline of this run of"),
        ({}, lambda: {"deadline": time.time() + 0.05}, "the deadline of this run of"),
    ],
    ids=["workflow", "run", "datetime", "epoch"],
)
def test_time_is_over(own: dict[str, Any], how: Callable[[], dict[str, Any]], words: str, kind: str, face: str) -> None:
    """A timeout or deadline cancels the run with source `deadline`; nothing starts after it."""
    never: list[str] = []
    workflow = Workflow("w", steps=[waiting_step(kind), lambda _: never.append("ran")], grace=PATIENCE, **own)
    output = do(workflow, face, **how())
    assert output.status is RunStatus.cancelled and output.cancel.source is Source.deadline
    assert words in output.cancel.reason and output.cancel.by == "desist"
    assert never == [] and output.cancel.abandoned == []


@faces
def test_a_deadline_that_has_passed(face: str) -> None:
    """A run whose deadline has passed starts cancelled: no step runs."""
    never: list[str] = []
    output = do(Workflow("w", steps=[lambda _: never.append("ran")]), face, deadline=time.time() - 1)
    assert output.status is RunStatus.cancelled and output.cancel.source is Source.deadline and never == []


def test_a_time_that_isnt_one() -> None:
    """A deadline without a time zone, or of another type, is refused before anything runs."""
    workflow = Workflow("w", steps=[lambda _: None])
    for wrong in (dt.datetime(2030, 1, 1), "tomorrow"):
        with pytest.raises(ConfigurationError, match="deadline="):
            workflow.run("go", deadline=wrong)


@faces
@pytest.mark.parametrize("said", [[], ["some "]], ids=["before the first piece", "after one"])
def test_a_stall(said: list[str], face: str) -> None:
    """A model that sends nothing for `stall_timeout` seconds ends its run, with source `stall` and what was said."""
    agent = Agent(ScriptedModel([[*said, Gate()]]), name="A", stall_timeout=0.05)
    output = do(agent, face)
    assert output.status is RunStatus.cancelled and output.cancel.source is Source.stall
    assert (output.content or "") == "".join(said)


def counting_agent() -> tuple[Agent, list[int]]:
    called: list[int] = []

    def count() -> str:
        """Count."""
        called.append(1)
        return "counted"

    return Agent(ScriptedModel([ToolCalls(Call("count"))], repeat=True), name="A", tools=[count]), called


@faces
@pytest.mark.parametrize(
    ("budget", "words", "calls"),
    [
        (Budget(model_calls=3), "budget of 3 model_calls", 3),
        (Budget(tool_calls=2), "budget of 2 tool_calls", 2),
        (Budget(cost=3, price=lambda model, usage: 1.0), "budget of 3 cost", 3),
    ],
    ids=["model calls", "tool calls", "cost"],
)
def test_a_budget(budget: Budget, words: str, calls: int, face: str) -> None:
    """Past its budget a run is cancelled with source `budget`, and nothing more is started."""
    agent, called = counting_agent()
    output = do(agent, face, budget=budget)
    assert output.status is RunStatus.cancelled and output.cancel.source is Source.budget
    assert words in output.cancel.reason and len(called) == calls


@faces
def test_a_budget_in_the_middle_of_an_answer(face: str) -> None:
    """A budget of tokens stops an answer while it streams."""
    agent = Agent(ScriptedModel(["word " * 500]), name="A")
    output = do(agent, face, budget=Budget(tokens=10))
    assert output.cancel.source is Source.budget and len(output.content.split()) in (10, 11)


@faces
def test_a_budget_of_the_whole_tree(face: str) -> None:
    """What steps, and agents in tools, spend counts for the run that has the budget; the whole tree ends."""
    inner, _ = counting_agent()

    async def ask() -> str:
        """Ask another agent."""
        return str((await inner.arun("go")).content)

    outer = Agent(ScriptedModel([ToolCalls(Call("ask"))], repeat=True), name="Outer", tools=[ask])
    output = do(Workflow("w", steps=[Step("s", agent=outer)]), face, budget=Budget(model_calls=4))
    assert output.status is RunStatus.cancelled and output.cancel.source is Source.budget


def hang_sync() -> str:
    Gate().wait_blocking(PATIENCE)
    return "never"


def loop_sync() -> str:
    while True:
        time.sleep(0.001)


async def hang_async() -> str:
    await Gate().wait()
    return "never"


hanging = pytest.mark.parametrize("hang", [hang_sync, loop_sync, hang_async], ids=lambda f: f.__name__)


@faces
@hanging
def test_a_tools_timeout(hang: Callable[[], Any], face: str) -> None:
    """A tool past its timeout fails alone: the model reads an error that says so, and the run completes."""
    slow = tool(name="slow", description="Be slow.", timeout=0.05)(hang)
    model = ScriptedModel([Call("slow"), "as you like"])
    output = do(Agent(model, name="A", tools=[slow]), face)
    assert output.status is RunStatus.completed and output.content == "as you like" and output.cancel is None
    [execution] = output.tools
    assert execution.tool_call_error and "longer than its timeout of 0.05 s" in execution.result


def step_of(hang: Callable[[], Any], **options: Any) -> Step:
    if hang is hang_async:

        async def wait(_: Any) -> Any:
            return await hang()

        return Step("slow", executor=wait, max_retries=0, timeout=0.05, **options)
    return Step("slow", executor=lambda _: hang(), max_retries=0, timeout=0.05, **options)


@faces
@hanging
def test_a_steps_timeout(hang: Callable[[], Any], face: str) -> None:
    """A step past its timeout fails; on_error="skip" goes on, and nothing is cancelled."""
    output = do(Workflow("w", steps=[step_of(hang), lambda given: "after"]), face)
    assert output.status is RunStatus.completed and output.cancel is None and output.content == "after"
    slow, after = output.step_results
    assert not slow.success and not slow.cancelled and "its timeout of 0.05 s" in slow.error and after.success


@faces
@hanging
def test_a_steps_timeout_that_fails_the_run(hang: Callable[[], Any], face: str) -> None:
    """on_error="fail": the run ends with an error, not as cancelled."""
    never: list[str] = []
    output = do(Workflow("w", steps=[step_of(hang, on_error="fail"), lambda _: never.append("ran")]), face)
    assert output.status is RunStatus.error and output.cancel is None and never == []


@faces
def test_an_agent_steps_timeout(face: str) -> None:
    """A step whose agent takes too long: the agent's run is cancelled, the step fails, the workflow goes on."""
    gate = Gate()
    slow = Step("slow", agent=Agent(ScriptedModel([["some ", gate]]), name="A"), timeout=0.05, max_retries=0)
    output = do(Workflow("w", steps=[slow, lambda given: "after"]), face)
    assert output.status is RunStatus.completed and output.content == "after"
    assert "its timeout of 0.05 s" in output.step_results[0].error


@faces
def test_a_timeout_error_of_the_users_own(face: str) -> None:
    """A TimeoutError that the step's own code raises is that error, not the step's timeout."""

    def fail(_: Any) -> None:
        raise TimeoutError("their server is slow")

    output = do(Workflow("w", steps=[Step("s", executor=fail, timeout=PATIENCE, max_retries=0)]), face)
    assert "their server is slow" in output.step_results[0].error
