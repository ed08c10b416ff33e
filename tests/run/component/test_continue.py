"""Going on with a run that was stopped: what had finished is taken as it was, the rest runs (C2, C3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from desist import Agent, RunStatus, Step, StepInput, StepOutput, Workflow
from desist.cancel.registry import registry
from desist.db import SqliteDb
from desist.exceptions import ConfigurationError, RunStateError
from desist.testing import Call, Gate, ScriptedModel
from desist.tools import tool
from desist.workflow import Loop, Parallel, Steps

S = RunStatus
pytestmark = pytest.mark.anyio


class Stage:
    """Steps that note that they ran; one named in `stops` waits at a gate the first time."""

    def __init__(self, *stops: str) -> None:
        self.ran: list[str] = []
        self.gate = Gate()
        self._stops = set(stops)

    def step(self, name: str) -> Step:
        async def work(given: StepInput) -> str:
            self.ran.append(name)
            if name in self._stops:
                self._stops.discard(name)
                await self.gate.wait()
            return f"{name} after {given.get_last_step_content()}"

        return Step(name, executor=work)


def stopped(workflow: Workflow, gate: Gate, *, after: str | None = None, **options: Any) -> Any:
    """Run, cancel at the gate, and once the step `after` has ended, and return the output."""
    reader = workflow.run("go", stream=True, stream_events=True, **options)
    while after is not None and next(reader).event != after:
        pass
    gate.wait_reached()
    receipt = workflow.cancel(reader.run_id, reason="for now")
    assert receipt.wait(10)
    assert [*reader][-1].is_cancelled
    return workflow.get_run(reader.run_id)


@pytest.fixture(params=["memory", "sqlite"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return SqliteDb(db_file=str(tmp_path / "runs.db")) if request.param == "sqlite" else None


def test_finished_steps_are_taken_over(db: Any) -> None:
    """C3: cancelled in step 3, a continuation reuses 1 and 2, runs 3 again, and then 4."""
    stage = Stage("three")
    workflow = Workflow("W", steps=[stage.step(name) for name in ("one", "two", "three", "four")], db=db)
    earlier = stopped(workflow, stage.gate)
    assert stage.ran == ["one", "two", "three"]
    output = workflow.continue_run(run_id=earlier.run_id)
    assert stage.ran == ["one", "two", "three", "three", "four"]
    assert output.status is S.completed and output.content == "four after three after two after one after None"
    assert [step.step_name for step in output.step_results] == ["one", "two", "three", "four"]
    assert output.run_id != earlier.run_id and output.continued_from == earlier.run_id
    stored = workflow.get_run(earlier.run_id)
    assert stored is not None and stored.status is S.cancelled, "the cancelled run never comes back to life"


def test_continued_twice() -> None:
    """A continuation that is cancelled itself can be continued."""
    stage = Stage("two", "three")
    workflow = Workflow("W", steps=[stage.step(name) for name in ("one", "two", "three")])
    first = stopped(workflow, stage.gate)
    reader = workflow.continue_run(first, stream=True, stream_events=True)
    stage.gate.wait_reached(2)
    assert workflow.cancel_run(reader.run_id)
    events = [*reader]
    started = [event.step_name for event in events if event.event == "StepStarted"]
    assert events[-1].is_cancelled and started == ["two", "three"]
    output = workflow.continue_run(run_id=reader.run_id)
    assert output.content == "three after two after one after None" and output.continued_from == reader.run_id
    assert stage.ran == ["one", "two", "two", "three", "three"]


async def test_for_async_code(db: Any) -> None:
    """The same awaited, streamed and in the background."""
    for number, how in enumerate(("await", "stream", "background")):
        stage = Stage("two")
        workflow = Workflow(f"W{number}", steps=[stage.step("one"), stage.step("two")], db=db)
        pending = await workflow.arun("go", background=True)
        await asyncio.to_thread(stage.gate.wait_reached)
        await workflow.cancel(pending.run_id)
        if how == "await":
            output = await workflow.acontinue_run(run_id=pending.run_id)
        elif how == "stream":
            *_, last = [event async for event in workflow.acontinue_run(run_id=pending.run_id, stream=True)]
            output = last.run_output
        else:
            going = await workflow.acontinue_run(run_id=pending.run_id, background=True)
            assert going.status is S.pending
            *_, last = [event async for event in workflow.afollow(going.run_id)]
            output = last.run_output
        assert output.content == "two after one after None" and stage.ran == ["one", "two", "two"]


def test_what_finished_inside_containers() -> None:
    """Branches of a Parallel, rounds of a Loop, steps of a nested workflow that finished aren't run again."""
    shapes: list[Callable[[Stage], Any]] = [
        lambda s: Steps("box", steps=[s.step("a"), s.step("stop"), s.step("b")]),
        lambda s: Workflow("box", steps=[s.step("a"), s.step("stop"), s.step("b")]),
        lambda s: Steps("box", steps=[Loop([s.step("a"), s.step("stop")], name="l", max_iterations=1)]),
        lambda s: Steps("box", steps=[Parallel(s.step("a"), Steps("p", steps=[s.step("stop")]), name="x")]),
    ]
    for shape in shapes:
        stage = Stage("stop")
        workflow = Workflow("W", steps=[shape(stage)])
        output = workflow.continue_run(stopped(workflow, stage.gate, after="StepCompleted"))
        assert output.status is S.completed
        assert (stage.ran.count("a"), stage.ran.count("stop")) == (1, 2)


def test_what_the_run_was_given_is_given_again(db: Any) -> None:
    """Input, additional data, session and state are the earlier run's, unless something else is said."""
    gate, seen = Gate(), []

    async def work(given: StepInput, session_state: dict[str, Any]) -> str:
        session_state["tries"] = session_state.get("tries", 0) + 1
        seen.append((given.input, given.additional_data, session_state["tries"]))
        if len(seen) == 1:
            await gate.wait()
        return "done"

    workflow = Workflow("W", steps=[Step("work", executor=work)], db=db)
    earlier = stopped(workflow, gate, additional_data={"k": 1}, session_id="s", user_id="u", metadata={"m": 2})
    output = workflow.continue_run(run_id=earlier.run_id)
    assert (output.session_id, output.user_id, output.metadata) == ("s", "u", {"m": 2})
    assert seen == [("go", {"k": 1}, 1), ("go", {"k": 1}, 2)]
    assert workflow.get_session_state("s")["tries"] == 2


def shop(gate: Gate, orders: list[str], script: list[Any], **more: Any) -> tuple[Agent, ScriptedModel]:
    """An agent with a tool that returns at once, and one that has an effect and then hangs."""

    @tool
    def look_up() -> str:
        """Look something up."""
        return "in stock"

    @tool
    async def order() -> str:
        """Order it."""
        orders.append("ordered")
        await gate.wait()
        return "never"

    model = ScriptedModel(script)
    return Agent(model, name="Shop", tools=[look_up, order], **more), model


def test_a_stopped_tool_call_is_not_made_again(db: Any) -> None:
    """C2: in a workflow that is continued, the agent goes on after its calls; the stopped one is told as stopped."""
    gate, orders = Gate(), list[str]()
    agent, model = shop(gate, orders, [[Call("look_up"), Call("order")], "It may have been ordered already."])
    workflow = Workflow("W", steps=[Step("shop", agent=agent)], db=db)
    earlier = stopped(workflow, gate, after="ToolCallCompleted")
    output = workflow.continue_run(run_id=earlier.run_id)
    assert (output.status, output.content) == (S.completed, "It may have been ordered already.")
    assert orders == ["ordered"]
    told = model.requests[-1].messages
    results = {message.tool_name: message.content for message in told if message.role == "tool"}
    assert results["look_up"] == "in stock" and "stopped" in results["order"]
    assert [message.role for message in told] == ["user", "assistant", "tool", "tool"]


def test_an_agent_by_itself(db: Any) -> None:
    """An agent's run is continued after its last results; without any it asks again."""
    gate, orders = Gate(), list[str]()
    agent, model = shop(gate, orders, [[Call("order")], "Sorry.", ["Once ", gate], "Again."], db=db)
    reader = agent.run("buy it", stream=True, session_id="s")
    gate.wait_reached()
    assert agent.cancel(reader.run_id).wait(10)
    output = agent.continue_run(run_id=reader.run_id)
    assert (output.content, orders, output.session_id) == ("Sorry.", ["ordered"], "s")
    assert [message.role for message in output.messages] == ["user", "assistant", "tool", "assistant"]
    again = agent.run("tell", stream=True)
    gate.wait_reached(2)
    assert agent.cancel(again.run_id).wait(10)
    output = agent.continue_run(run_id=again.run_id)
    assert output.content == "Again." and [message.content for message in model.requests[-1].messages] == ["tell"]


def test_the_history_tells_a_continued_run_once(db: Any) -> None:
    """The next run in the session is told the question and the calls once, by the run that went on."""
    gate, orders = Gate(), list[str]()
    agent, model = shop(gate, orders, [[Call("order")], "Sorry.", "Bye."], db=db, add_history_to_context=True)
    reader = agent.run("buy it", stream=True, session_id="s")
    gate.wait_reached()
    assert agent.cancel(reader.run_id).wait(10)
    agent.continue_run(run_id=reader.run_id)
    assert [message.role for message in model.requests[-1].messages] == ["user", "assistant", "tool"]
    agent.run("thanks", session_id="s")
    roles = [message.role for message in model.requests[-1].messages]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]


def test_a_failed_run_is_continued() -> None:
    """A step that failed runs again; those before it don't."""
    tries: list[str] = []

    def flaky(given: StepInput) -> str:
        tries.append("flaky")
        if len(tries) == 1:
            raise ValueError("not yet")
        return "now"

    stage = Stage()
    steps = [stage.step("one"), Step("flaky", executor=flaky, max_retries=0, on_error="fail"), stage.step("two")]
    workflow = Workflow("W", steps=steps)
    failed = workflow.run("go")
    assert failed.status is S.error
    output = workflow.continue_run(failed)
    assert output.status is S.completed and stage.ran == ["one", "two"] and len(tries) == 2


def test_what_cannot_be_continued() -> None:
    """A live run, a completed one, an unknown one, nothing, both, a changed workflow: errors, and nothing runs."""
    stage = Stage("two")
    workflow = Workflow("W", steps=[stage.step("one"), stage.step("two")])
    reader = workflow.run("go", stream=True)
    stage.gate.wait_reached()
    with pytest.raises(RunStateError, match="is RUNNING"):
        workflow.continue_run(run_id=reader.run_id)
    assert workflow.cancel(reader.run_id).wait(10)
    done = workflow.continue_run(run_id=reader.run_id)
    ran = list(stage.ran)
    with pytest.raises(RunStateError, match="is COMPLETED"):
        workflow.continue_run(done)
    for wrong in ({"run_id": "nobody"}, {}, {"run_response": done, "run_id": done.run_id}, {"run_response": "text"}):
        with pytest.raises(ConfigurationError):
            workflow.continue_run(**wrong)
    with pytest.raises(ConfigurationError, match=r"step_requirements=\) needs a paused run"):
        workflow.continue_run(run_id=reader.run_id, step_requirements=[])
    other = Workflow("W", steps=[stage.step("uno"), stage.step("two")])
    failed = other.continue_run(workflow.get_run(reader.run_id))
    assert failed.status is S.error and "'uno'" in failed.error and "'one'" in failed.error
    assert stage.ran == ran and registry.live() == []


def test_a_step_that_says_more_than_its_content_is_taken_whole() -> None:
    """What was taken over is the very output: content of any kind, media, and success."""
    stage = Stage("two")
    made = StepOutput(content={"a": [1, 2]}, images=["picture"])
    workflow = Workflow("W", steps=[Step("one", executor=lambda given: made), stage.step("two")])
    output = workflow.continue_run(stopped(workflow, stage.gate))
    assert output.step_results[0].content == {"a": [1, 2]} and output.step_results[0].images == ["picture"]


def test_a_continuation_that_was_stopped_early_loses_nothing(db: Any) -> None:
    """Cancelled before it came to anything, a continuation still has what the first run had made."""
    stage = Stage("three")
    workflow = Workflow("W", steps=[stage.step(name) for name in ("one", "two", "three")], db=db)
    first = stopped(workflow, stage.gate)
    second = workflow.continue_run(first, timeout=0)
    assert second.status is S.cancelled and second.cancellation_stage.value == "PENDING"
    assert [step.step_name for step in second.step_results] == ["one", "two", "three"]
    output = workflow.continue_run(run_id=second.run_id)
    assert output.status is S.completed and stage.ran == ["one", "two", "three", "three"]


def test_the_runs_of_finished_agents_are_kept(db: Any) -> None:
    """The outputs of agents whose steps were taken over stand in the new output, too."""
    stage = Stage("two")
    agent = Agent(ScriptedModel(["hello"]), name="A")
    workflow = Workflow("W", steps=[Step("agent", agent=agent), stage.step("two")], db=db)
    first = stopped(workflow, stage.gate)
    output = workflow.continue_run(run_id=first.run_id)
    [run] = output.step_executor_runs
    assert run.run_id == output.step_results[0].step_run_id and run.content == "hello"


def test_what_was_undone_is_not_taken_over() -> None:
    """After compensations finished steps aren't finished any more: the run can't be continued."""
    stage = Stage("two")
    first = Step("one", executor=lambda given: "1", compensate=lambda output: None)
    workflow = Workflow("W", steps=[first, stage.step("two")], grace=10)
    reader = workflow.run("go", stream=True)
    stage.gate.wait_reached()
    assert workflow.cancel(reader.run_id, compensate=True).wait(10)
    with pytest.raises(RunStateError, match="its cancel undid"):
        workflow.continue_run(run_id=reader.run_id)
