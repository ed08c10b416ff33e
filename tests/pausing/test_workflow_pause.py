"""A run of a workflow that waits for a human: before a step, after it, for its agent, for a choice, after an error."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from paused_agents import Payments, paying_agent

from desist import Condition, Loop, Parallel, Router, RunStatus, Step, StepInput, StepOutput, Steps, Workflow
from desist.cancel.reason import Source
from desist.exceptions import AnswerRefusedError, ConfigurationError, UnsupportedError
from desist.run.answer import answer, pending
from desist.run.requirement import AnswerOutcome
from desist.testing import Gate
from desist.workflow import HumanReview, OnError, OnReject, pause

Until = Callable[[Callable[[], object]], None]


class Journal:
    """Functions for steps, and the order in which they ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def step(self, name: str, content: Any = None) -> Callable[[StepInput], Any]:
        def run(step_input: StepInput) -> Any:
            self.ran.append(name)
            return f"{name} done" if content is None else content

        run.__name__ = name
        return run


def three(journal: Journal, store: Any = None, **review: Any) -> Workflow:
    """Return a workflow of three steps, the second of which waits."""
    return Workflow(
        name="three",
        db=store,
        steps=[
            Step("a", executor=journal.step("a")),
            Step("b", executor=journal.step("b"), **review),
            Step("c", executor=journal.step("c")),
        ],
    )


def test_a_confirmed_step(store: Any) -> None:
    """What was before the step is done and isn't repeated; the step runs when it is confirmed, in the same run."""
    journal = Journal()
    flow = three(journal, store, human_review=HumanReview(requires_confirmation=True, confirmation_message="ok?"))
    out = flow.run("go")
    assert out.is_paused and journal.ran == ["a"]
    assert (out.paused_step_index, out.paused_step_name, out.pause_kind) == (1, "b", "step")
    [requirement] = out.steps_requiring_confirmation
    assert (requirement.step_name, requirement.confirmation_message) == ("b", "ok?")
    requirement.confirm(by="ann")
    copy = type(out).from_dict(out.to_dict())
    done = flow.continue_run(out)
    assert (done.status, done.run_id, journal.ran) == (RunStatus.completed, out.run_id, ["a", "b", "c"])
    assert [step.content for step in done.step_results] == ["a done", "b done", "c done"]
    assert (done.step_requirements[0].state, done.step_requirements[0].by) == ("answered", "ann")
    with pytest.raises(AnswerRefusedError) as caught:
        flow.continue_run(copy)
    assert caught.value.receipt.outcome is AnswerOutcome.already_answered and journal.ran == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("on_reject", "ran", "status"),
    [("skip", ["a", "c"], RunStatus.completed), ("cancel", ["a"], RunStatus.cancelled)],
)
def test_a_rejected_step(store: Any, on_reject: str, ran: list[str], status: RunStatus) -> None:
    """A rejected step does not run: the next one does, or the run is cancelled by who rejected it."""
    journal = Journal()
    flow = three(journal, store, requires_confirmation=True, on_reject=on_reject)
    out = flow.run("go")
    out.step_requirements[0].reject("not now", by="ann")
    done = flow.continue_run(out)
    assert (done.status, journal.ran) == (status, ran)
    if status is RunStatus.cancelled:
        assert (done.cancel.reason, done.cancel.by, done.cancellation_stage) == ("not now", "ann", "PAUSED")


def test_cancel_of_a_paused_workflow(store: Any) -> None:
    """F2: the run is cancelled at once; finished steps are kept, what waited is closed."""
    journal = Journal()
    flow = three(journal, store, requires_confirmation=True)
    out = flow.run("go")
    receipt = flow.cancel(out.run_id, reason="stop")
    assert receipt and receipt.wait(10)
    found = flow.get_run(out.run_id)
    assert found.status is RunStatus.cancelled and found.cancel.reason == "stop"
    assert found.cancellation_stage == "PAUSED" and found.step_requirements[0].state == "closed"
    assert [(step.step_name, step.cancelled) for step in found.step_results] == [("a", False), ("b", True)]
    late = answer(out.run_id, out.step_requirements[0].id, "confirm", db=store)
    assert late.outcome is AnswerOutcome.run_ended and journal.ran == ["a"]


def test_user_input(store: Any) -> None:
    """Values for a step are checked, and reach it as `additional_data["user_input"]`."""
    seen: list[Any] = []

    @pause(
        requires_user_input=True,
        user_input_schema=[{"name": "count", "field_type": "int"}, {"name": "size", "allowed_values": ["s", "l"]}],
    )
    def order(step_input: StepInput) -> str:
        seen.append((step_input.additional_data or {})["user_input"])
        return "ordered"

    flow = Workflow(name="orders", db=store, steps=[order])
    out = flow.run("go")
    [requirement] = out.steps_requiring_user_input
    with pytest.raises(ConfigurationError, match="count must be of type integer"):
        requirement.set_user_input(count="many", size="s")
    with pytest.raises(ConfigurationError, match="size must be one of"):
        answer(out.run_id, requirement.id, "input", values={"count": 1, "size": "xl"}, db=store)
    requirement.set_user_input(count=2, size="l")
    assert flow.continue_run(out).content == "ordered"
    assert seen == [{"count": 2, "size": "l"}]


def test_output_review(store: Any) -> None:
    """An output waits for a review: edited without running again, or rejected, which runs the step again."""
    tries: list[Any] = []

    def write(step_input: StepInput) -> str:
        tries.append((step_input.additional_data or {}).get("rejection_feedback"))
        return f"draft {len(tries)}"

    review = HumanReview(requires_output_review=True, on_reject=OnReject.retry, max_retries=2)
    flow = Workflow(name="drafts", db=store, steps=[Step("write", executor=write, human_review=review)])
    out = flow.run("go")
    [requirement] = out.steps_requiring_output_review
    assert requirement.is_post_execution and tries == [None]
    requirement.reject("shorter")
    again = flow.continue_run(out)
    assert again.is_paused and tries == [None, "shorter"]
    active = again.active_step_requirements
    assert len(again.step_requirements) == 2 and [one.retry_count for one in active] == [1]
    active[0].edit("the end")
    done = flow.continue_run(again)
    assert done.content == "the end" and tries == [None, "shorter"]


def test_too_many_rejections(store: Any) -> None:
    """After max_retries a rejection cancels the run."""
    journal = Journal()
    review = HumanReview(requires_output_review=True, on_reject="retry", max_retries=1)
    flow = Workflow(name="drafts", db=store, steps=[Step("a", executor=journal.step("a"), human_review=review)])
    out = flow.run("go")
    for _ in range(2):
        out.active_step_requirements[0].reject("no")
        out = flow.continue_run(out)
    assert out.status is RunStatus.cancelled and journal.ran == ["a", "a"]


def test_the_agent_of_a_step_waits(store: Any) -> None:
    """An agent in a step pauses the workflow; its guarded call is made once, in the same runs."""
    payments, journal = Payments(), Journal()
    steps = [Step("a", executor=journal.step("a")), Step("pay", agent=paying_agent(payments))]
    flow = Workflow(name="shop", db=store, steps=[*steps, Step("c", executor=journal.step("c"))])
    events = list(flow.run("go", stream=True, stream_events=True))
    names = [event.event for event in events]
    assert names[-1] == "WorkflowPaused" and "StepExecutorPaused" in names and "RunPaused" in names
    out = flow.get_run(events[-1].run_id)
    assert out.pause_kind == "executor" and out.paused_step_name == "pay"
    [requirement] = out.step_requirements
    assert requirement.needs_executor_input and not requirement.is_resolved
    [inner] = requirement.executor_requirements
    assert [one.requirement_id for one in pending(out.run_id, db=store)] == [inner.id]
    inner.confirm(by="ann")
    more = list(flow.continue_run(out, stream=True, stream_events=True))
    names = [event.event for event in more]
    assert "StepExecutorContinued" in names and "RunContinued" in names and names[-1] == "WorkflowCompleted"
    done = flow.get_run(out.run_id)
    assert payments.made == [5] and journal.ran == ["a", "c"]
    [child] = done.step_executor_runs
    assert (child.status, child.run_id, child.content) == (RunStatus.completed, requirement.executor_run_id, "done")


def test_cancel_while_the_agent_of_a_step_waits(store: Any) -> None:
    """The cancel of the workflow, by the id of its agent's run, ends both."""
    payments = Payments()
    flow = Workflow(name="shop", db=store, steps=[Step("pay", agent=paying_agent(payments))])
    out = flow.run("go")
    child_id = out.step_requirements[0].executor_run_id
    receipt = flow.cancel(child_id)
    assert receipt and receipt.wait(10)
    found = flow.get_run(out.run_id)
    assert found.status is RunStatus.cancelled
    assert [run.status for run in found.step_executor_runs] == [RunStatus.cancelled]
    assert all(not one.is_open for one in pending(out.run_id, db=store)) and payments.made == []


def test_parallel(store: Any) -> None:
    """F4: a branch that waits doesn't stop the others; the run pauses when nothing runs, and no branch is repeated."""
    payments, journal, waiting = Payments(), Journal(), threading.Event()

    def slow(step_input: StepInput) -> str:
        assert waiting.wait(30)  # the other branches wait for their humans by then
        journal.ran.append("slow")
        return "slow done"

    flow = Workflow(
        name="branches",
        db=store,
        steps=[
            Parallel(
                Step("ask", executor=journal.step("ask"), requires_confirmation=True),
                Step("pay", agent=paying_agent(payments)),
                Step("slow", executor=slow),
                name="all",
            ),
            Step("after", executor=journal.step("after")),
        ],
    )
    paused: list[str] = []
    with flow.run("go", stream=True, stream_events=True) as reader:
        for event in reader:
            if event.event in ("StepPaused", "StepExecutorPaused"):
                paused.append(event.event)
                if len(paused) == 2:
                    waiting.set()
    out = flow.get_run(event.run_id)
    assert out.is_paused and journal.ran == ["slow"] and sorted(paused) == ["StepExecutorPaused", "StepPaused"]
    for requirement in out.step_requirements:
        if requirement.requires_executor_input:
            requirement.executor_requirements[0].confirm()
        else:
            requirement.confirm()
    done = flow.continue_run(out)
    assert done.status is RunStatus.completed and payments.made == [5]
    assert journal.ran == ["slow", "ask", "after"]
    assert [step.step_name for step in done.step_results[0].steps] == ["ask", "pay", "slow"]


def test_inside_of_containers(store: Any) -> None:
    """Pauses in a Loop, a Condition and a sequence: the finished work inside is kept, each round is asked for."""
    journal = Journal()
    inner = Steps("both", steps=[journal.step("x"), Step("y", executor=journal.step("y"), requires_confirmation=True)])
    flow = Workflow(
        name="deep", db=store, steps=[Loop([Condition([inner], True, name="if")], "twice", max_iterations=2)]
    )
    out = flow.run("go")
    for round_ in (1, 2):
        assert out.is_paused and journal.ran == ["x", "y"] * (round_ - 1) + ["x"]
        out.active_step_requirements[0].confirm()
        out = flow.continue_run(out)
    assert out.status is RunStatus.completed and journal.ran == ["x", "y", "x", "y"]
    assert len(out.step_requirements) == 2


@pytest.mark.parametrize(("confirmed", "ran"), [(True, ["if"]), (False, ["else"])])
def test_condition_else(confirmed: bool, ran: list[str]) -> None:
    """A rejected Condition runs its else_steps, if on_reject says so."""
    journal = Journal()
    review = HumanReview(requires_confirmation=True, on_reject=OnReject.else_branch)
    steps = [Condition([journal.step("if")], True, [journal.step("else")], name="c", human_review=review)]
    flow = Workflow(name="w", steps=steps)
    out = flow.run("go")
    requirement = out.step_requirements[0]
    requirement.confirm() if confirmed else requirement.reject()
    assert flow.continue_run(out).status is RunStatus.completed and journal.ran == ran


def test_router_selection(store: Any) -> None:
    """A human chooses the steps of a Router; what is no choice is refused."""
    journal = Journal()
    review = HumanReview(requires_user_input=True, allow_multiple_selections=True)
    flow = Workflow(
        name="w",
        db=store,
        steps=[Router([journal.step("a"), journal.step("b"), journal.step("c")], name="r", human_review=review)],
    )
    events = list(flow.run("go", stream=True))
    assert [event.event for event in events][-2:] == ["RouterPaused", "WorkflowPaused"]
    assert events[-2].available_choices == ["a", "b", "c"]
    out = flow.get_run(events[-1].run_id)
    [requirement] = out.steps_requiring_route
    with pytest.raises(ConfigurationError, match="choices must be names of a, b, c"):
        requirement.select("d")
    requirement.select_multiple(["c", "a"])
    assert flow.continue_run(out).status is RunStatus.completed and journal.ran == ["c", "a"]


@pytest.mark.parametrize("decision", ["retry", "skip"])
def test_pause_after_an_error(store: Any, decision: str) -> None:
    """A failed step waits for a human, who has it tried again, or skipped."""
    tries: list[int] = []

    def fragile(step_input: StepInput) -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("broken")
        return "whole"

    journal = Journal()
    step = Step("fragile", executor=fragile, max_retries=0, on_error=OnError.pause)
    flow = Workflow(name="w", db=store, steps=[step, journal.step("after")])
    out = flow.run("go")
    [requirement] = out.active_error_requirements
    assert out.is_paused and requirement.error_message == "broken" and requirement.error_type == "ValueError"
    requirement.retry() if decision == "retry" else requirement.skip()
    done = flow.continue_run(out)
    assert done.status is RunStatus.completed and journal.ran == ["after"]
    assert len(tries) == (2 if decision == "retry" else 1)
    assert done.step_results[0].success is (decision == "retry")


def test_deadline_of_a_step(store: Any, until: Until) -> None:
    """F3: nobody looks at a step in time: the run is cancelled by the deadline."""
    journal = Journal()
    flow = three(journal, store, requires_confirmation=True, hitl_timeout=0.05)
    out = flow.run("go")
    until(lambda: flow.get_run(out.run_id).status is RunStatus.cancelled)
    assert flow.get_run(out.run_id).cancel.source is Source.deadline and journal.ran == ["a"]


@pytest.mark.anyio
async def test_async(store: Any) -> None:
    """The same on an event loop."""
    journal = Journal()
    flow = three(journal, store, requires_confirmation=True)
    out = await flow.arun("go")
    out.step_requirements[0].confirm()
    done = await flow.acontinue_run(out)
    assert done.status is RunStatus.completed and journal.ran == ["a", "b", "c"]
    second = await flow.arun("go")
    receipt = await flow.acancel(second.run_id)
    assert receipt and await receipt is not None


def test_a_failed_branch_ends_what_waits(store: Any) -> None:
    """A run that fails while the agent of another branch waits has nothing left that could be answered."""
    payments, asked = Payments(), threading.Event()

    def fail(step_input: StepInput) -> str:
        assert asked.wait(30)
        raise ValueError("broken")

    flow = Workflow(
        name="w",
        db=store,
        steps=[
            Parallel(
                Step("pay", agent=paying_agent(payments)),
                Step("fail", executor=fail, max_retries=0, on_error="fail"),
                siblings="spare",
            )
        ],
    )
    with flow.run("go", stream=True, stream_events=True) as reader:
        for event in reader:
            if event.event == "StepExecutorPaused":
                child_id = event.executor_run_id
                asked.set()
    found = flow.get_run(event.run_id)
    assert found.status is RunStatus.error
    if store is not None:
        child = store.get_run(child_id)
        assert child.status is not RunStatus.paused
    assert all(not one.is_open for one in pending(found.run_id, db=store))


def test_what_cannot_wait_is_refused_by_name() -> None:
    """Kinds of waits that a step does not have are refused when it is made."""
    nothing = Journal().step("nothing")
    with pytest.raises(UnsupportedError, match="can't wait for iteration_review"):
        Loop([nothing], "l", human_review=HumanReview(requires_iteration_review=True))
    with pytest.raises(UnsupportedError, match="can't wait for output_review"):
        Router([nothing], name="r", human_review=HumanReview(requires_output_review=True))
    with pytest.raises(UnsupportedError, match="Parallel has no parameter human_review="):
        Parallel(nothing, human_review=HumanReview())
    with pytest.raises(UnsupportedError, match="on_reject='retry' needs requires_output_review="):
        Step("s", executor=nothing, requires_confirmation=True, on_reject="retry")


def test_outputs_survive_json(store: Any) -> None:
    """The output of a paused run, sent as JSON and back, can be answered and continued."""
    journal = Journal()
    flow = three(journal, store, requires_confirmation=True)
    out = flow.run("go")
    data = out.to_dict()
    data["step_requirements"][0]["confirmed"] = True
    assert isinstance(out.step_results[0], StepOutput)
    assert flow.continue_run(run_id=out.run_id, step_requirements=data["step_requirements"]).status == "COMPLETED"


def test_cancel_by_the_id_of_a_paused_agent_while_the_workflow_runs(store: Any) -> None:
    """An agent waits, another branch runs: the id of the agent's run still finds, and stops, the tree."""
    payments, asked, gate = Payments(), threading.Event(), Gate()

    async def slow(step_input: StepInput) -> str:
        asked.set()
        await gate.wait()
        return "never"

    steps = [Parallel(Step("pay", agent=paying_agent(payments)), Step("slow", executor=slow))]
    flow = Workflow(name="w", db=store, steps=steps)
    child_id = ""
    with flow.run("go", stream=True, stream_events=True) as reader:
        for event in reader:
            if event.event == "StepExecutorPaused":
                child_id = event.executor_run_id
                assert asked.wait(30)
                receipt = flow.cancel(child_id)
                assert receipt
    found = flow.get_run(event.run_id)
    assert event.event == "WorkflowCancelled" and found.status is RunStatus.cancelled
    assert all(not one.is_open for one in pending(found.run_id, db=store)) and payments.made == []
    if store is not None:
        assert store.get_run(child_id).status is RunStatus.cancelled
