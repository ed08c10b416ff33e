"""Steps whose agent or workflow has an `arun` or `run` of the user's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cancel_trial import Journal, Mode, Trial

from desist import Agent, Parallel, RunStatus, Step, StepInput, Workflow
from desist.run.agent import RunOutput
from desist.testing import Gate, ScriptedModel


class Async(Agent):
    """Overrides `arun` as a coroutine function."""

    called = 0

    async def arun(self, input: Any, **options: Any) -> Any:  # type: ignore[override]
        self.called += 1
        output = await super().arun(f"<{input}>", **options)
        output.content = f"[{output.content}]"
        return output


class Plain(Agent):
    """Overrides `arun` as a plain method."""

    called = 0

    def arun(self, input: Any, **options: Any) -> Any:  # type: ignore[override]
        self.called += 1
        return super().arun(f"<{input}>", **options)


class Sync(Agent):
    """Overrides `run` only."""

    called = 0

    def run(self, input: Any, **options: Any) -> Any:  # type: ignore[override]
        self.called += 1
        output = super().run(f"<{input}>", **options)
        output.content = f"[{output.content}]"
        return output


class Streamed(Agent):
    """Overrides `arun` as an async generator."""

    called = 0

    async def arun(self, input: Any, **options: Any) -> Any:  # type: ignore[override]
        self.called += 1
        async for event in super().arun(f"<{input}>", stream=True):
            yield event


class Alone(Agent):
    """Calls no model."""

    called = 0

    async def arun(self, input: Any, **options: Any) -> Any:  # type: ignore[override]
        self.called += 1
        return RunOutput(content="alone")


class Mixin:
    called = 0

    async def arun(self, input: Any, **options: Any) -> Any:
        self.called += 1
        return await super().arun(f"<{input}>", **options)  # type: ignore[misc]


class Mixed(Mixin, Agent):
    """Overrides `arun` in a mixin."""


KINDS: dict[Any, str] = {
    Async: "[so it is]",
    Plain: "so it is",
    Sync: "[so it is]",
    Streamed: "so it is",
    Mixed: "so it is",
    Alone: "alone",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_calls_the_users_method(kind: Any, mode: Mode, journal: Journal) -> None:
    """Once, with the step's input; its run is a child with the step's ids, and its value is the step's output."""
    model = ScriptedModel(["so it is"])
    agent = kind(model=model, name="A")
    trial = Trial(Workflow("W", steps=[Step("ask", agent=agent)], db=journal), mode).start("x").finish()
    assert trial.error is None and trial.output.status is RunStatus.completed
    stored = journal.last(trial.run_id)
    [step] = stored["step_results"]
    assert (step["content"], step["success"], agent.called) == (KINDS[kind], True, 1)
    if kind is Alone:
        assert model.requests == []
        return
    assert model.requests[0].messages[-1].content == "<x>"
    [child] = stored["step_executor_runs"]
    assert (child["parent_run_id"], child["session_id"]) == (trial.run_id, stored["session_id"])
    assert (child["workflow_id"], child["workflow_step_id"]) == ("w", step["step_id"])
    if mode.stream:
        texts = [event.content for event in trial.events if event.is_content and event.run_id == child["run_id"]]
        assert "".join(texts) == "so it is"
        assert [event.event for event in trial.events if event.is_terminal][-1] == "WorkflowCompleted"


@pytest.mark.parametrize("kind", [Async, Plain, Sync, Streamed, Mixed])
def test_a_cancel_stops_the_run_inside(kind: Any, mode: Mode, journal: Journal) -> None:
    """The worst moment: the model waits in the middle. The child is cancelled, and nothing is abandoned."""
    gate = Gate()
    model = ScriptedModel([["so ", gate, "it is"]])
    agent = kind(model=model, name="A")
    trial = Trial(Workflow("W", steps=[Step("ask", agent=agent), lambda _: "never"], db=journal), mode).start("x")
    gate.wait_reached()
    receipt = trial.cancel(grace=5)
    assert receipt.wait(20) and receipt.abandoned == []
    trial.finish()
    assert trial.output.status is RunStatus.cancelled and model.cancelled == 1
    stored = journal.last(trial.run_id)
    [child], [step] = stored["step_executor_runs"], stored["step_results"]
    assert (child["status"], child["content"], step["cancelled"]) == ("CANCELLED", "so ", True)


@pytest.mark.parametrize("kind", [Async, Sync])
def test_a_cancel_by_the_childs_id(kind: Any) -> None:
    """An id of any event of the tree finds the tree, also that of a run inside of the user's method."""
    gate = Gate()
    agent = kind(model=ScriptedModel([["so ", gate]]), name="A")
    workflow = Workflow("W", steps=[Step("ask", agent=agent)])
    events = workflow.run("x", stream=True)
    child = next(event.run_id for event in events if event.is_content)
    assert child != events.run_id and workflow.cancel(child)
    assert list(events)[-1].event == "WorkflowCancelled"


class Failing(Agent):
    tries = 0

    async def arun(self, input: Any, **options: Any) -> Any:  # type: ignore[override]
        self.tries += 1
        if self.tries == 1:
            raise ValueError("not yet")
        return await super().arun(input, **options)


def test_an_error_of_the_users_method_is_retried() -> None:
    """It is an attempt of the step like any other."""
    agent = Failing(model=ScriptedModel(["done"]), name="A")
    output = Workflow("W", steps=[Step("ask", agent=agent)]).run("x")
    assert (output.content, agent.tries) == ("done", 2)


def test_an_error_of_the_run_inside_fails_the_step() -> None:
    """The message is that of the run, as without a method of the user's own."""
    agent = Plain(model=ScriptedModel([ValueError("broken")]), name="A")
    output = Workflow("W", steps=[Step("ask", agent=agent, max_retries=0, on_error="fail")]).run("x")
    assert output.status is RunStatus.error and "step 'ask': broken" in str(output.error)


@pytest.mark.parametrize("kind", [Async, Sync, Alone])
def test_the_timeout_of_the_step_holds(kind: Any) -> None:
    """For the run inside and for the code around it."""
    gate = Gate()

    class Slow(kind):  # type: ignore[misc]
        async def arun(self, input: Any, **options: Any) -> Any:
            await gate.wait()

    chosen = Slow if kind is Alone else kind
    agent = chosen(model=ScriptedModel([[gate, "never"]]), name="A")
    step = Step("ask", agent=agent, timeout=0.05, max_retries=0, on_error="fail")
    output = Workflow("W", steps=[step]).run("x")
    assert output.status is RunStatus.error and "step 'ask' took longer than its timeout of 0.05 s" in str(output.error)


class Twice(Agent):
    async def arun(self, input: Any, **options: Any) -> Any:  # type: ignore[override]
        first = await super().arun(input)
        return await super().arun(first.content)


def test_the_users_method_may_run_the_agent_twice() -> None:
    """The first run is the step's; the second one is a child of the workflow's run, and gives the output."""
    agent = Twice(model=ScriptedModel(["one", "two"]), name="A")
    output = Workflow("W", steps=[Step("ask", agent=agent)]).run("x")
    assert output.content == "two" and output.status is RunStatus.completed


class Inner(Workflow):
    called = 0

    async def arun(self, input: Any = None, **options: Any) -> Any:  # type: ignore[override]
        self.called += 1
        return await super().arun(f"<{input}>", **options)


def test_a_workflow_with_an_arun_of_its_own() -> None:
    """A nested workflow's is called too, in parallel branches as well."""
    inner = Inner("Inner", steps=[lambda given: f"did {given.input}"])
    agent = Async(model=ScriptedModel(["so"], repeat=True), name="A")
    branches = Parallel(Step("in", workflow=inner), Step("a", agent=agent), Step("b", agent=agent))
    output = Workflow("W", steps=[branches]).run("x")
    assert output.status is RunStatus.completed and (inner.called, agent.called) == (1, 2)
    assert [step.content for step in output.step_results[0].steps] == ["did <x>", "[so]", "[so]"]


def test_an_arun_that_was_set_on_the_object(mode: Mode, journal: Journal) -> None:
    """As a test or a tracer does it."""
    agent = Agent(ScriptedModel(["so it is"]), name="A")
    original = agent.arun
    seen: list[Any] = []

    async def traced(input: Any, **options: Any) -> Any:
        seen.append(input)
        return await original(input, **options)

    agent.arun = traced  # type: ignore[method-assign, assignment]
    trial = Trial(Workflow("W", steps=[agent], db=journal), mode).start("x").finish()
    assert journal.last(trial.run_id)["content"] == "so it is" and seen == ["x"]


def test_a_function_step_that_calls_the_method_is_unchanged() -> None:
    """Outside of an agent's step the run is opened as anywhere else."""
    agent = Async(model=ScriptedModel(["so"]), name="A")

    async def ask(step_input: StepInput) -> str:
        return str((await agent.arun(step_input.input)).content)

    assert asyncio.run(Workflow("W", steps=[ask]).arun("x")).content == "[so]"
