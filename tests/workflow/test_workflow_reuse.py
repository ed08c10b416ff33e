"""Going on from an earlier run: what finished is taken as it is, the first that didn't runs again, all after it anew.

Here on the level of a workflow's body: the outputs that a stopped run left are given to another one.
"""

from __future__ import annotations

from typing import Any

import pytest
from cancel_trial import PATIENCE, Journal, Mode, Trial
from event_grammar import check_grammar

from desist import Agent, Condition, Loop, Parallel, Router, Step, StepInput, Steps, Workflow
from desist.cancel import RunStatus
from desist.run.execution.run import Run, new_id
from desist.run.options.parent_context import ParentContext
from desist.streams.reader import SyncReader
from desist.testing import Gate, ScriptedModel
from desist.workflow.run_body import WorkflowRunBody


class Again:
    """A workflow whose step `stop` waits at a gate the first time."""

    def __init__(self, journal: Journal) -> None:
        self.journal, self.gate, self.ran, self.asked = journal, Gate(), list[str](), list[str]()

    def step(self, name: str) -> Step:
        def work(given: StepInput) -> str:
            self.ran.append(name)
            if name == "stop" and not self.gate.is_open:
                self.gate.wait_blocking()
            return f"{name} after {given.previous_step_content}"

        return Step(name, executor=work)

    def answer(self, name: str, answer: Any) -> Any:
        def ask(subject: Any) -> Any:
            self.asked.append(name)
            return answer(subject) if callable(answer) else answer

        return ask

    def stopped(self, workflow: Workflow, mode: Mode) -> list[Any]:
        """Run it, cancel it in `stop`, and return what its steps had made, as it was stored."""
        self.workflow = workflow
        trial = Trial(workflow, mode).start()
        self.gate.wait_reached()
        assert trial.cancel().wait(PATIENCE)
        trial.finish()
        self.gate.open()
        self.ran.clear()
        self.asked.clear()
        return self.journal.last(trial.run_id)["step_results"]

    def again(self, before: list[Any], workflow: Workflow | None = None) -> tuple[Any, list[Any]]:
        """Go on from there; return the output and the events."""
        workflow = workflow or self.workflow
        body = WorkflowRunBody(
            workflow.config(),
            StepInput(input="go"),
            ParentContext(workflow_id=workflow.id),
            has_reader=True,
            stream_events=True,
            earlier_outputs=before,
        )
        run_id = new_id()
        body.bind_run_id(run_id, None)
        run = Run.open(body, run_id=run_id, store=self.journal).start()
        events = list(SyncReader(run))
        check_grammar(events, run_id)
        return body.output, events


@pytest.fixture
def tale(journal: Journal) -> Again:
    return Again(journal)


def _told(events: list[Any]) -> list[str]:
    return [event.step_name for event in events if event.event == "StepStarted"]


def test_finished_steps_are_taken_as_they_are(tale: Again, mode: Mode) -> None:
    """C3: steps 1 and 2 done, 3 interrupted: 3 and what follows runs; of 1 and 2 nothing is told."""
    steps = [tale.step(name) for name in ("one", "two", "stop", "four")]
    before = tale.stopped(Workflow("W", steps=steps, db=tale.journal), mode)
    output, events = tale.again(before)
    assert output.status is RunStatus.completed and tale.ran == ["stop", "four"] == _told(events)
    assert output.content == "four after stop after two after one after None"
    assert [step.step_name for step in output.step_results] == ["one", "two", "stop", "four"]


CONTAINERS: dict[str, Any] = {
    "steps": lambda tale, inner: Steps("box", steps=inner),
    "if": lambda tale, inner: Condition(inner, tale.answer("if", True), name="box"),
    "else": lambda tale, inner: Condition([tale.step("no")], tale.answer("else", False), inner, "box"),
    "router": lambda tale, inner: Router([tale.step("no"), *inner], tale.answer("router", lambda given: inner), "box"),
    "loop": lambda tale, inner: Loop(inner, "box", max_iterations=1),
    "workflow": lambda tale, inner: Workflow("box", steps=inner, db=tale.journal),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_container_goes_on_inside(kind: str, tale: Again, mode: Mode) -> None:
    """Stopped in its second child: the first is taken as it is, nothing is asked again, the same branch goes on."""
    inner = [tale.step("one"), tale.step("stop"), tale.step("three")]
    steps = [tale.step("first"), CONTAINERS[kind](tale, inner), tale.step("last")]
    before = tale.stopped(Workflow("W", steps=steps, db=tale.journal), mode)
    output, _ = tale.again(before)
    assert output.status is RunStatus.completed and tale.ran == ["stop", "three", "last"] and tale.asked == []
    given = "first after None" if kind != "workflow" else "None"
    assert output.content == f"last after three after stop after one after {given}"
    assert [step.step_name for step in output.step_results[1].steps] == ["one", "stop", "three"]


def test_finished_branches_are_taken_as_they_are(tale: Again, mode: Mode) -> None:
    """Of a Parallel, the branches that finished; the others go on inside."""
    from step_ends import Ends

    branch = Steps("slow", steps=[tale.step("one"), tale.step("stop")])
    workflow = Workflow("W", steps=[Parallel("P", tale.step("quick"), branch)], db=tale.journal)
    with Ends() as ends:
        trial = Trial(workflow, mode).start()
        tale.gate.wait_reached()
        ends.wait_ended("quick")
        assert trial.cancel().wait(PATIENCE)
    trial.finish()
    tale.gate.open()
    tale.ran.clear()
    output, _ = tale.again(tale.journal.last(trial.run_id)["step_results"], workflow)
    assert output.status is RunStatus.completed and tale.ran == ["stop"]
    assert [step.step_name for step in output.step_results[0].steps] == ["quick", "slow"]
    assert output.content == "=== quick ===\nquick after None\n\n=== slow ===\nstop after one after None"


@pytest.mark.parametrize("where", ["step", "end condition"])
def test_a_loop_goes_on_in_its_round(where: str, tale: Again, mode: Mode) -> None:
    """Rounds that finished are taken as they are; the interrupted one goes on; if it was interrupted while the end
    condition was asked, that is asked again, and nothing else is done twice."""
    turns: list[int] = []

    def turn(given: StepInput) -> int:
        turns.append(1)
        if len(turns) == 3 and where == "step" and not tale.gate.is_open:
            tale.gate.wait_blocking()
        return len(turns)

    def enough(outputs: list[Any]) -> bool:
        if outputs[-1].content == 3 and where != "step" and not tale.gate.is_open:
            tale.gate.wait_blocking()
        return outputs[-1].content >= 5

    steps = [Step("note", executor=lambda given: "noted"), Step("turn", executor=turn)]
    workflow = Workflow("W", steps=[Loop(steps, "L", max_iterations=9, end_condition=enough)], db=tale.journal)
    before = tale.stopped(workflow, mode)
    assert len(before[0]["steps"]) == 6
    turns.pop() if where == "step" else None
    output, events = tale.again(before)
    made = [step.content for step in output.step_results[0].steps]
    assert output.status is RunStatus.completed
    assert made == ["noted", 1, "noted", 2, "noted", 3, "noted", 4, "noted", 5]
    [loop] = [event for event in events if event.event == "LoopExecutionCompleted"]
    assert loop.total_iterations == 5
    assert _told(events)[:1] == (["turn"] if where == "step" else ["note"])


def test_an_interrupted_agent_runs_anew(tale: Again, mode: Mode) -> None:
    """A step whose agent was interrupted asks the model again; one that had answered doesn't."""
    model = ScriptedModel(["answered", ["begins ", tale.gate, "ends"], ["begins ", tale.gate, "ends"]])
    agent = Agent(model, name="A", db=tale.journal)
    steps = [Step("first", agent=agent), Step("second", agent=agent)]
    before = tale.stopped(Workflow("W", steps=steps, db=tale.journal), mode)
    output, _ = tale.again(before)
    assert len(model.requests) == 3 and [s.content for s in output.step_results] == ["answered", "begins ends"]


def test_what_failed_runs_again(tale: Again, mode: Mode) -> None:
    """An earlier run that failed: the failed step runs again, those before it don't."""
    broken = [True]

    def work(given: StepInput) -> str:
        if broken:
            raise ValueError("it broke")
        return "mended"

    steps = [tale.step("one"), Step("bad", executor=work, max_retries=0, on_error="fail"), tale.step("three")]
    workflow = Workflow("W", steps=[Steps("box", steps=steps)], db=tale.journal)
    trial = Trial(workflow, mode).start().finish()
    broken.clear()
    tale.ran.clear()
    output, _ = tale.again(tale.journal.last(trial.run_id)["step_results"], workflow)
    assert output.status is RunStatus.completed and tale.ran == ["three"] and output.content == "three after mended"


def test_what_was_taken_can_be_undone(tale: Again, journal: Journal, mode: Mode) -> None:
    """A cancel with compensate=True undoes the steps that were taken from the earlier run, too."""
    undone: list[str] = []
    inner = tale.step("one")
    inner.compensate = lambda output: undone.append(output.content)
    steps = [Steps("box", steps=[inner]), tale.step("stop"), tale.step("three")]
    workflow = Workflow("W", steps=steps, db=journal, compensate=True)
    trial = Trial(workflow, mode).start()
    tale.gate.wait_reached()
    assert trial.cancel().wait(PATIENCE)
    trial.finish()
    assert undone == ["one after None"]
    gate = tale.gate = Gate()
    body = WorkflowRunBody(workflow.config(), StepInput(), ParentContext(), has_reader=False, stream_events=False,
                        earlier_outputs=journal.last(trial.run_id)["step_results"])  # fmt: skip
    body.bind_run_id(new_id(), None)
    run = Run.open(body, run_id=body.output.run_id, store=journal).start()
    gate.wait_reached()
    assert workflow.cancel(run.run_id).wait(PATIENCE)
    assert undone == ["one after None"] * 2


def test_a_changed_workflow_is_refused(tale: Again, mode: Mode) -> None:
    """Names that don't match: an error that names the step, and nothing runs; also inside of containers."""
    branch = Parallel("P", Steps("slow", steps=[tale.step("stop")]))
    before = tale.stopped(Workflow("W", steps=[tale.step("one"), branch], db=tale.journal), mode)
    renamed = Parallel("P", Steps("other", steps=[tale.step("stop")]))
    inside = Parallel("P", Steps("slow", steps=[tale.step("new")]))
    for steps, words in [
        ([tale.step("uno"), branch], "step 0 of the workflow is 'uno' now, and was 'one'"),
        ([tale.step("one")], "it had a step 'P', and the workflow has no step 1 any more"),
        ([tale.step("one"), renamed], "Parallel 'P' had a branch 'slow'"),
        ([tale.step("one"), inside], "step 0 of 'slow' is 'new' now, and was 'stop'"),
    ]:
        output, _ = tale.again(before, Workflow("W", steps=steps, db=tale.journal))
        assert output.status is RunStatus.error and words in output.error, output.error
    assert tale.ran == []


def test_a_router_whose_choice_is_gone(tale: Again, mode: Mode) -> None:
    """What a router had chosen must still be there."""
    chosen = tale.step("stop")
    before = tale.stopped(Workflow("W", steps=[Router([chosen], lambda given: "stop", "R")], db=tale.journal), mode)
    changed = Workflow("W", steps=[Router([tale.step("other")], lambda given: "other", "R")], db=tale.journal)
    output, _ = tale.again(before, changed)
    assert output.status is RunStatus.error and "Router 'R' had a choice 'stop'" in output.error and tale.ran == []


def test_a_step_that_was_skipped_runs_again_with_all_after_it(tale: Again, mode: Mode) -> None:
    """A step that had failed didn't finish: it runs again, and so does what had worked without what it makes."""
    broken = [True]

    def work(given: StepInput) -> str:
        if broken:
            broken.clear()
            raise ValueError("it broke")
        return "mended"

    bad = Step("bad", executor=work, max_retries=0)
    steps = [tale.step("one"), bad, tale.step("three"), tale.step("stop")]
    before = tale.stopped(Workflow("W", steps=steps, db=tale.journal), mode)
    assert [step["success"] for step in before] == [True, False, True, False]
    output, _ = tale.again(before)
    assert tale.ran == ["three", "stop"] and output.content == "stop after three after mended"
