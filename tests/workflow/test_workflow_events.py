"""What is shown and what is stored: flags change that, never what is done; and events of the user's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from cancel_trial import PATIENCE, Journal, Mode, Trial, check_stopped
from event_grammar import check_grammar

from desist import Agent, Parallel, Step, StepInput, Workflow
from desist.exceptions import ConfigurationError
from desist.run.agent import CustomEvent as AgentCustomEvent
from desist.run.agent import RunEvent
from desist.run.workflow import CustomEvent, WorkflowRunEvent
from desist.testing import Call, Gate, ScriptedModel

STREAM = Mode(asynchronous=False, stream=True)


def _workflow(journal: Journal, **options: Any) -> Workflow:
    inner = Workflow("Inner", steps=[Agent(ScriptedModel("inside", repeat=True), name="B")])
    agent = Agent(ScriptedModel("one two", repeat=True), name="A")
    return Workflow("W", steps=[Parallel("P", agent, inner), lambda given: "made"], db=journal, **options)


def _events(workflow: Workflow, *, stream_events: bool = False) -> list[str]:
    return [event.event for event in workflow.run("go", stream=True, stream_events=stream_events)]


def test_without_stream_events(mode: Mode, journal: Journal) -> None:
    """Shown are the start, text, what functions made, and the workflow's own end: nothing of the runs inside."""
    workflow = _workflow(journal)
    assert set(_events(workflow)) == {"WorkflowStarted", "RunContent", "StepOutput", "WorkflowCompleted"}
    assert _events(workflow).count("WorkflowStarted") == _events(workflow).count("WorkflowCompleted") == 1


def test_executors_can_be_hidden(journal: Journal) -> None:
    """`stream_executor_events=False`: nothing of the agents inside, text neither; they run all the same."""
    workflow = _workflow(journal, stream_executor_events=False)
    assert _events(workflow) == ["WorkflowStarted", "StepOutput", "WorkflowCompleted"]
    reader = workflow.run("go", stream=True, stream_events=True)
    shown = list(reader)
    check_grammar(shown, reader.run_id)
    assert not [event for event in shown if event.event.startswith(("Run", "Model"))]
    output = workflow.get_run(reader.run_id)
    assert [step["content"] for step in output.step_results[0]["steps"]] == ["one two", "inside"]


@pytest.mark.parametrize("stream", [True, False])
def test_events_are_stored(stream: bool, mode: Mode, journal: Journal) -> None:
    """`store_events`: the output has the events in their order, shown or not, the end too; pieces of text aren't."""
    trial = Trial(_workflow(journal, store_events=True), mode, stream_events=stream).start().finish()
    kept = journal.load_run(trial.run_id).output.events
    check_grammar(kept, trial.run_id)
    names = [event.event for event in kept]
    assert names[0] == "WorkflowStarted" and names[-1] == "WorkflowCompleted" and "RunContent" not in names
    assert names.count("WorkflowStarted") == 2 and names.count("RunCompleted") == 2


def test_events_are_skipped_from_storage(journal: Journal) -> None:
    """`events_to_skip`: these aren't stored, by name or member; they are shown all the same."""
    skip = [WorkflowRunEvent.step_started, RunEvent.run_started, "ModelRequestStarted"]
    workflow = _workflow(journal, store_events=True, events_to_skip=skip)
    reader = workflow.run("go", stream=True, stream_events=True)
    shown = [event.event for event in reader]
    kept = [event.event for event in workflow.get_run(reader.run_id).events]
    assert {"StepStarted", "RunStarted", "ModelRequestStarted"} <= set(shown) - set(kept)
    assert sorted(kept) == sorted(name for name in shown if name not in [str(getattr(s, "value", s)) for s in skip])
    with pytest.raises(ConfigurationError, match="names 'Nope', and there is no such event"):
        Workflow("W", steps=[print], events_to_skip=["Nope"])


def test_nothing_is_stored_unasked(journal: Journal) -> None:
    """By default events aren't stored and executors' outputs are; `store_executor_outputs=False` leaves them out."""
    output = _workflow(journal).run("go")
    assert output.events is None and len(output.step_executor_runs) == 2
    output = _workflow(journal, store_executor_outputs=False).run("go")
    assert output.step_executor_runs is None and output.content == "made"


@pytest.mark.parametrize("shown", [True, False])
def test_a_cancel_is_the_same_whatever_is_shown(shown: bool, mode: Mode, journal: Journal) -> None:
    """B12: with events shown or not, executors hidden, events stored: the same is stopped, and the end is stored."""
    gate, never = Gate(), []
    agent = Agent(ScriptedModel([["begins ", gate, "never"]]), name="A", db=journal)
    steps = [Parallel("P", agent, Step("wait", executor=lambda given: gate.wait_blocking())), never.append]
    workflow = Workflow("W", steps=steps, db=journal, store_events=True, stream_executor_events=shown)
    trial = Trial(workflow, mode, stream_events=shown).start()
    gate.wait_reached(2)
    receipt = trial.cancel()
    assert receipt.wait(PATIENCE)
    trial.finish()
    check_stopped(trial, receipt)
    kept = journal.load_run(trial.run_id).output.events
    check_grammar(kept, trial.run_id)
    ends = [event.event for event in kept if event.is_cancelled]
    assert ends == ["RunCancelled", "WorkflowCancelled"] and never == []
    assert [event.step_name for event in kept if event.event == "StepCancelled"] == ["A", "wait", "P"]
    assert journal.last(trial.run_id)["step_results"][0]["content"] == "=== A ===\nbegins "


@dataclass(kw_only=True, eq=False, repr=False)
class Priced(CustomEvent):
    """A program's own event."""

    event: str = "Priced"
    price: int = 0


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_events_of_ones_own_from_functions(kind: str, mode: Mode, journal: Journal) -> None:
    """A custom event that a function yields passes through, with the ids of run, workflow and step filled in."""

    def price(given: StepInput) -> Any:
        yield Priced(price=3)
        yield AgentCustomEvent(event="Mine", note="n")
        yield "text"

    async def price_async(given: StepInput) -> Any:
        for item in price(given):
            yield item

    step = Step("price", executor=price if kind == "sync" else price_async)
    trial = Trial(Workflow("W", steps=[Parallel("P", step)], db=journal), mode).start().finish()
    assert trial.error is None and trial.output.status.value == "COMPLETED"
    if mode.stream:
        check_grammar(trial.events, trial.run_id)
        [priced] = [event for event in trial.events if event.event == "Priced"]
        assert priced.price == 3 and priced.workflow_id == "w" and priced.nested_depth == 1
        [mine] = [event for event in trial.events if event.event == "Mine"]
        for event in (priced, mine):
            assert (event.run_id, event.step_id) == (trial.run_id, step.step_id)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_events_of_ones_own_from_tools(kind: str, mode: Mode, journal: Journal) -> None:
    """A custom event that a tool's generator yields is in the stream, with the agent's ids; the rest is its result."""

    def search(q: str) -> Any:
        """Search."""
        yield "found "
        yield AgentCustomEvent(event="Searched", hits=2)
        yield "it"

    async def search_async(q: str) -> Any:
        """Search."""
        for item in search(q):
            yield item

    tool = search if kind == "sync" else search_async
    agent = Agent(ScriptedModel([Call(tool.__name__, {"q": "x"}), "done"]), name="A", tools=[tool], db=journal)
    trial = Trial(Workflow("W", steps=[agent], db=journal), mode).start().finish()
    assert trial.error is None
    [run] = journal.last(trial.run_id)["step_executor_runs"]
    assert run["tools"][0]["result"] == "found it"
    if mode.stream:
        check_grammar(trial.events, trial.run_id)
        [searched] = [event for event in trial.events if event.event == "Searched"]
        assert searched.hits == 2 and searched.agent_id == "a" and searched.run_id == run["run_id"]
        assert searched.workflow_run_id == trial.run_id and searched.step_name == "A"


def test_the_place_of_a_step_survives_the_wire(journal: Journal) -> None:
    """`step_index` is a number at the top and a tuple in containers, also of agents, and after `from_dict`."""
    from desist.run.events.codec import event_from_dict

    shown = list(_workflow(journal).run("go", stream=True, stream_events=True))
    places = {event.step_index for event in map(event_from_dict, (event.to_dict() for event in shown))
              if getattr(event, "step_index", None) is not None and "Run" in event.event}  # fmt: skip
    assert places == {(0, 0), 0}
