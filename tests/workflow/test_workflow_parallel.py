"""`Parallel`: what its branches do to one another when one fails or is cancelled, and what is left."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from cancel_trial import PATIENCE, Journal, Mode, Trial, check_record, check_stopped
from event_grammar import check_grammar

from desist import Agent, Loop, Parallel, Step, StepInput, Steps, Workflow
from desist.cancel import RunStatus, Source
from desist.cancel.registry import registry
from desist.testing import Call, Gate, ScriptedModel


def _talker(name: str, gate: Gate, journal: Journal) -> Agent:
    return Agent(ScriptedModel([[f"{name} begins ", gate, "and ends"]]), name=name, db=journal)


def _fail_when(*gates: Gate) -> Any:
    """Return a function that fails once all gates were reached."""

    def fail(given: StepInput) -> str:
        for gate in gates:
            gate.wait_reached()
        raise ValueError("it broke")

    return fail


def _child(name: str) -> str:
    """Return the id of the live run of the agent or workflow of this name."""
    [run] = [run for run in registry.live() if getattr(run.body.output, "agent_name", None) == name]
    return run.run_id


def _by_name(outputs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {output["step_name"]: output for output in outputs}


def test_all_branches_get_the_same_and_are_joined(mode: Mode, journal: Journal) -> None:
    """Each branch gets the input of the Parallel; the next step gets all contents under their names, in order."""
    seen: list[Any] = []
    late = Gate()

    def first(given: StepInput) -> str:
        late.wait_blocking()
        return f"one of {given.previous_step_content}"

    async def second(given: StepInput) -> str:
        late.open()
        return f"two of {given.previous_step_content}"

    def after(given: StepInput) -> str:
        seen.append((given.previous_step_content, given.get_step_content("both"), given.get_step_content("second")))
        return "end"

    workflow = Workflow("W", steps=[lambda given: "it", Parallel("both", first, second), after], db=journal)
    trial = Trial(workflow, mode).start().finish()
    assert trial.error is None and trial.output.status is RunStatus.completed
    text = "=== first ===\none of it\n\n=== second ===\ntwo of it"
    assert seen == [(text, {"first": "one of it", "second": "two of it"}, "two of it")]
    both = journal.last(trial.run_id)["step_results"][1]
    assert [step["step_name"] for step in both["steps"]] == ["first", "second"]


@pytest.mark.parametrize("where", ["agent step", "agent in a function", "agent in an async function", "tool"])
def test_a_branch_that_fails_stops_its_siblings(where: str, mode: Mode, journal: Journal) -> None:
    """A branch with on_error="fail" that fails stops the others: their runs end CANCELLED with source `sibling`, the
    steps say cancelled, the run ends ERROR; what had finished is kept."""
    gate, finished, never = Gate(), Gate(), []
    talker = _talker("Talker", gate, journal)

    async def asked(given: Any = None) -> str:
        """Ask."""
        return (await talker.arun("go")).content

    def asked_sync(given: Any) -> str:
        return talker.run("go").content

    outer = Agent(ScriptedModel([Call("asked"), "never"]), name="Outer", tools=[asked], db=journal)
    slow = {
        "agent step": Step("slow", agent=talker),
        "agent in a function": Step("slow", executor=asked_sync),
        "agent in an async function": Step("slow", executor=asked),
        "tool": Step("slow", agent=outer),
    }[where]
    early = Step("early", executor=lambda given: finished.open() or "early is done")
    bad = Step("bad", executor=_fail_when(gate), on_error="fail", max_retries=0)

    async def wait(given: StepInput) -> str:
        await finished.wait()
        return "waited"

    steps = [Parallel(early, Steps("slowly", steps=[wait, slow, never.append]), bad, name="P"), never.append]
    trial = Trial(Workflow("W", steps=steps, db=journal), mode).start().finish()
    stored = journal.last(trial.run_id)
    assert stored["status"] == "ERROR" and "it broke" in stored["error"] and never == []
    [parallel] = stored["step_results"]
    assert not parallel["success"] and "it broke" in parallel["error"] and not parallel["cancelled"]
    branches = _by_name(parallel["steps"])
    assert list(branches) == ["early", "slowly", "bad"]
    assert branches["early"]["success"] and branches["early"]["content"] == "early is done"
    assert branches["slowly"]["cancelled"] and not branches["bad"]["cancelled"]
    waited, interrupted = branches["slowly"]["steps"]
    assert waited["success"] and interrupted["cancelled"] and interrupted["step_name"] == "slow"
    children = {run_id for run_id, _, _ in journal.saved} - {trial.run_id}
    assert len(children) == 1 + (where == "tool")
    sources = [journal.wait_final(child)["cancel"]["source"] for child in children]
    assert sorted(sources) == sorted(["sibling", "parent"][: len(children)])
    assert gate.reached == 1
    if mode.stream:
        check_grammar(trial.events, trial.run_id)


def test_siblings_can_be_spared(mode: Mode, journal: Journal) -> None:
    """`siblings="spare"`: the others end first, and are kept; then the run fails with the first error."""
    failed, never = threading.Event(), []

    def fail(given: StepInput) -> None:
        failed.set()
        raise ValueError("it broke")

    def goes_on(given: StepInput) -> str:
        assert failed.wait(PATIENCE)
        return "went on"

    bad = Step("bad", executor=fail, on_error="fail", max_retries=0)
    steps = [Parallel("P", bad, goes_on, siblings="spare"), never.append]
    trial = Trial(Workflow("W", steps=steps, db=journal), mode).start().finish()
    stored = journal.last(trial.run_id)
    assert stored["status"] == "ERROR" and "step 'bad': it broke" in stored["error"] and never == []
    branches = _by_name(stored["step_results"][0]["steps"])
    assert branches["goes_on"]["success"] and branches["goes_on"]["content"] == "went on"
    assert branches["bad"]["error"] == "it broke"
    if mode.stream:
        check_grammar(trial.events, trial.run_id)


def test_a_branch_that_turns_its_cancel_into_an_error_is_not_tried_again(mode: Mode, journal: Journal) -> None:
    """No new work: a sibling that is stopped and answers with an exception isn't retried, nor followed by its next."""
    gate, attempts, never = Gate(), [], []

    async def stubborn(given: StepInput) -> None:
        attempts.append(1)
        try:
            await gate.wait()
        except asyncio.CancelledError:
            raise ValueError("I was disturbed") from None

    bad = Step("bad", executor=_fail_when(gate), on_error="fail", max_retries=0)
    steps = [Parallel("P", Steps("S", steps=[stubborn, never.append]), bad)]
    trial = Trial(Workflow("W", steps=steps, db=journal), mode).start().finish()
    stored = journal.last(trial.run_id)
    assert stored["status"] == "ERROR" and "it broke" in stored["error"]
    assert attempts == [1] and never == []


def test_a_failure_that_is_skipped_leaves_the_siblings_alone(mode: Mode, journal: Journal) -> None:
    """on_error="skip", the default: the branch is recorded as failed, the others end, the workflow goes on."""
    bad = Step("bad", executor=_fail_when(), max_retries=0)
    after = Step("after", executor=lambda given: given.previous_step_content)
    trial = Trial(Workflow("W", steps=[Parallel("P", bad, lambda given: "fine"), after], db=journal), mode)
    trial.start().finish()
    stored = journal.last(trial.run_id)
    assert stored["status"] == "COMPLETED" and stored["content"] == "=== <lambda> ===\nfine"
    parallel = stored["step_results"][0]
    assert not parallel["success"] and [step["success"] for step in parallel["steps"]] == [False, True]


@pytest.mark.parametrize("skip", [False, True], ids=["needed", "skip"])
def test_an_agent_of_a_branch_is_cancelled_alone(skip: bool, mode: Mode, journal: Journal) -> None:
    """B6: `scope="run"` on a branch's agent takes its siblings and the workflow with it, unless its step says skip."""
    gate, other = Gate(), Gate()
    one, two = _talker("One", gate, journal), _talker("Two", other, journal)
    step = Step("one", agent=one, on_cancel="skip" if skip else None)
    after = Step("after", executor=lambda given: "after")
    trial = Trial(Workflow("W", steps=[Parallel("P", step, Step("two", agent=two)), after], db=journal), mode).start()
    gate.wait_reached()
    other.wait_reached()
    child, sibling = _child("One"), _child("Two")
    receipt = trial.runner.cancel(child, scope="run", reason="only this", by="me")
    assert receipt and receipt.run_id == child and receipt.wait(PATIENCE)
    if skip:
        other.open()
    trial.finish()
    stored = journal.last(trial.run_id)
    assert journal.last(child)["cancel"]["source"] == "user"
    branches = _by_name(stored["step_results"][0]["steps"])
    assert branches["one"]["cancelled"] and branches["one"]["content"] == "One begins "
    if skip:
        assert stored["status"] == "COMPLETED" and stored["content"] == "after"
        assert branches["two"]["content"] == "Two begins and ends"
    else:
        assert stored["status"] == "CANCELLED" and branches["two"]["cancelled"]
        check_record(trial.output.cancel, reason="only this", by="me", source=Source.child)
        assert journal.last(sibling)["cancel"]["source"] == "sibling"
    if mode.stream:
        check_grammar(trial.events, trial.run_id)


@pytest.mark.parametrize("kind", ["sync", "async", "agent"])
def test_64_branches(kind: str, mode: Mode, journal: Journal) -> None:
    """A15: 64 branches run at once; a cancel stops all of them, and every one says so."""
    gate = Gate()

    def branch(number: int) -> Step:
        async def waiting(given: StepInput) -> None:
            await gate.wait()

        def blocking(given: StepInput) -> None:
            gate.wait_blocking()

        if kind == "agent":
            return Step(f"b{number}", agent=_talker(f"A{number}", gate, journal))
        return Step(f"b{number}", executor=waiting if kind == "async" else blocking)

    workflow = Workflow("W", steps=[Parallel("P", *map(branch, range(64)))], db=journal)
    trial = Trial(workflow, mode).start()
    gate.wait_reached(64)
    receipt = trial.cancel(grace=PATIENCE)  # 64 threads take their time
    assert receipt.wait(PATIENCE)
    trial.finish()
    check_stopped(trial, receipt)
    steps = journal.last(trial.run_id)["step_results"][0]["steps"]
    assert [step["step_name"] for step in steps] == [f"b{number}" for number in range(64)]
    assert all(step["cancelled"] for step in steps) and receipt.abandoned == []
    if mode.stream:
        check_grammar(trial.events, trial.run_id)


def test_parallel_loops_that_stream(mode: Mode, journal: Journal) -> None:
    """A15: a Parallel of Loops over agents, streaming, cancelled while tokens flow: no hang, finished rounds kept."""
    gates = [Gate(), Gate()]

    def loop(number: int) -> Loop:
        script = ScriptedModel(["round one", ["round two ", gates[number], "never"]])
        step = Step(f"talk{number}", agent=Agent(script, name=f"A{number}", db=journal))
        return Loop([step], f"loop{number}", max_iterations=10)

    trial = Trial(Workflow("W", steps=[Parallel("P", loop(0), loop(1))], db=journal), mode).start()
    for gate in gates:
        gate.wait_reached()
    receipt = trial.cancel()
    assert receipt.wait(PATIENCE)
    trial.finish()
    check_stopped(trial, receipt)
    for kept in journal.last(trial.run_id)["step_results"][0]["steps"]:
        assert [(step["content"], step["cancelled"]) for step in kept["steps"]] == [
            ("round one", False),
            ("round two ", True),
        ]
    if mode.stream:
        check_grammar(trial.events, trial.run_id)


@pytest.mark.parametrize("end", ["cancel", "failure"])
def test_branches_are_joined(end: str, mode: Mode, journal: Journal) -> None:
    """Whatever ends a Parallel, all of its branches are out before it is told: their `finally` has run."""
    gate, cleaned = Gate(), []

    async def branch(given: StepInput) -> None:
        try:
            await gate.wait()
        finally:
            for _ in range(200):
                await asyncio.sleep(0)
            cleaned.append(1)

    steps = [Step(f"b{number}", executor=branch) for number in range(3)]
    if end == "failure":

        async def bad(given: StepInput) -> None:
            while gate.reached < 3:
                await asyncio.sleep(0)
            raise ValueError("it broke")

        steps.append(Step("bad", executor=bad, on_error="fail", max_retries=0))
    trial = Trial(Workflow("W", steps=[Parallel("P", *steps)], db=journal), mode).start()
    gate.wait_reached(3)
    if end == "cancel":
        assert trial.cancel(grace=PATIENCE).wait(PATIENCE)
    stored = journal.wait_final(trial.run_id)
    assert cleaned == [1, 1, 1] and stored["status"] == ("CANCELLED" if end == "cancel" else "ERROR")
    trial.finish()
