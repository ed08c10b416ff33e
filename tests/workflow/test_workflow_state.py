"""The session state: one for a run, copies for the branches of a Parallel, and how they come together again."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from cancel_trial import PATIENCE, Journal, Mode, Trial
from step_ends import Ends

from desist import Agent, Condition, Loop, Parallel, Router, RunContext, Step, StepInput, Steps, Workflow
from desist.testing import Call, Gate, ScriptedModel
from desist.workflow.branch_state import BranchStates, copy_state


def test_state_reaches_everything(mode: Mode, journal: Journal) -> None:
    """Functions, tools, evaluators, selectors and end conditions share one session state, and `run_context` has it."""

    def tool(session_state: dict[str, Any]) -> str:
        """Note."""
        session_state["seen"].append("tool")
        return "noted"

    def note(word: str, answer: Any = None) -> Any:
        def function(given: Any, session_state: dict[str, Any], run_context: RunContext) -> Any:
            assert run_context.session_state is session_state
            session_state["seen"].append(word)
            return answer

        return function

    agent = Agent(ScriptedModel([Call("tool"), "done"]), tools=[tool], name="A")
    step = Step("step", executor=note("step"))
    steps = [
        agent,
        Loop([step], "L", end_condition=note("end", True)),
        Condition([step], note("if", True), name="C"),
        Router([step], note("router", "step"), name="R"),
    ]
    state: dict[str, Any] = {"seen": []}
    trial = Trial(Workflow("W", steps=steps, db=journal), mode).start(session_state=state).finish()
    assert trial.error is None
    assert state["seen"] == ["tool", "step", "end", "if", "step", "router", "step"]


def test_runs_of_one_workflow_share_no_state() -> None:
    """The workflow's own session state is copied for each run, all the way down."""
    seen: list[Any] = []

    def add(given: StepInput, session_state: dict[str, Any]) -> None:
        session_state["list"].append(1)
        seen.append(list(session_state["list"]))

    workflow = Workflow("W", steps=[add], session_state={"list": []})
    workflow.run()
    workflow.run()
    assert seen == [[1], [1]] and workflow.session_state == {"list": []}


def _setter(name: str, **changes: Any) -> Step:
    def change(given: StepInput, session_state: dict[str, Any]) -> None:
        session_state.update(changes)

    return Step(name, executor=change)


def test_branches_work_on_copies_that_are_merged(mode: Mode, journal: Journal) -> None:
    """Branches don't see each other's changes; what each added, changed and deleted is merged, dicts key by key."""
    met, seen = threading.Barrier(2, timeout=PATIENCE), []

    def one(given: StepInput, session_state: dict[str, Any]) -> None:
        session_state["one"] = 1
        session_state["deep"]["one"] = {"x": 1}
        del session_state["old"]
        met.wait()
        met.wait()
        seen.append("two" in session_state or "two" in session_state["deep"])

    def two(given: StepInput, session_state: dict[str, Any]) -> None:
        met.wait()
        seen.append("one" in session_state or "old" not in session_state)
        session_state["two"] = 2
        session_state["deep"]["two"] = 2
        session_state["new"] = {"b": 2}
        session_state["list"].append(2)
        met.wait()

    state = {"old": 0, "deep": {"kept": 0}, "list": [0], "same": {"a": 1}}
    same = state["same"]
    trial = Trial(Workflow("W", steps=[Parallel("P", one, two)], db=journal), mode)
    trial.start(session_state=state).finish()
    assert trial.error is None and seen == [False, False]
    assert state == {
        "deep": {"kept": 0, "one": {"x": 1}, "two": 2},
        "list": [0, 2],
        "same": {"a": 1},
        "one": 1,
        "two": 2,
        "new": {"b": 2},
    }
    assert state["same"] is same and journal.last(trial.run_id)["step_results"][0].get("conflicts") is None


def test_a_conflict_is_told(mode: Mode, journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    """Two branches that change one key differently: the later branch wins, whichever was faster; the log and the
    Parallel's output say where."""
    first_may, state = threading.Event(), {"n": 0, "deep": {"k": 0}, "gone": 1}

    def slow(given: StepInput, session_state: dict[str, Any]) -> None:
        assert first_may.wait(PATIENCE)
        session_state.update(n=1, same="s")
        session_state["deep"]["k"] = 1
        session_state["gone"] = 2

    def fast(given: StepInput, session_state: dict[str, Any]) -> None:
        session_state.update(n=2, same="s")
        session_state["deep"]["k"] = 2
        del session_state["gone"]
        first_may.set()

    trial = Trial(Workflow("W", steps=[Parallel("P", slow, fast)], db=journal), mode)
    trial.start(session_state=state).finish()
    assert state == {"n": 2, "deep": {"k": 2}, "same": "s"}
    told = journal.last(trial.run_id)["step_results"][0]["conflicts"]
    places = ["session_state['n']", "session_state['deep']['k']", "session_state['gone']"]
    assert told == [f"{place} was changed by 'slow' and by 'fast': 'fast' wins" for place in places]
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warned == [f"Parallel 'P': {words}" for words in told]


def test_an_interrupted_branch_changes_nothing(mode: Mode, journal: Journal) -> None:
    """Cancelled in a Parallel: what finished branches changed is merged, what interrupted ones did isn't; hooks find
    the state that way."""
    gate, found = Gate(), []

    async def stuck(given: StepInput, session_state: dict[str, Any]) -> None:
        session_state["stuck"] = True
        await gate.wait()

    def hook(output: Any, session_state: dict[str, Any]) -> None:
        found.append(dict(session_state))

    state: dict[str, Any] = {}
    inner = Parallel("inner", _setter("deep", deep=1), stuck)
    ended = Steps("ended", steps=[_setter("set", set=1)])
    workflow = Workflow("W", steps=[Parallel("P", ended, inner)], on_cancel=hook, db=journal)
    with Ends() as ends:
        trial = Trial(workflow, mode).start(session_state=state)
        gate.wait_reached()
        ends.wait_ended("ended")
        ends.wait_ended("deep")
        receipt = trial.cancel()
    assert receipt.wait(PATIENCE)
    trial.finish()
    assert state == {"set": 1} and found == [{"set": 1}]


def test_what_cant_be_copied_is_shared(caplog: pytest.LogCaptureFixture) -> None:
    """A lock in the state is shared by all branches as it is; the log says so, once."""
    lock, seen = threading.Lock(), []

    def look(given: StepInput, session_state: dict[str, Any]) -> None:
        seen.append((session_state["lock"], session_state["deep"]["lock"], session_state["list"]))
        session_state["list"].append(1)

    state = {"lock": lock, "deep": {"lock": lock}, "list": []}
    steps = [Parallel("P", *(Step(f"b{number}", executor=look) for number in range(3)))]
    Workflow("W", steps=steps).run(session_state=state)
    assert [pair[:2] for pair in seen] == [(lock, lock)] * 3 and len({id(pair[2]) for pair in seen}) == 3
    told = [r.getMessage() for r in caplog.records if "can't be copied" in r.getMessage()]
    assert len(told) == 2 and "session_state['lock']" in told[0] and "session_state['deep']['lock']" in told[1]


class Box:
    """A value that can't be compared."""

    def __init__(self, value: int) -> None:
        self.value = value


class Rude(Box):
    """A value that refuses to be compared."""

    __hash__ = None  # type: ignore[assignment]  # it compares

    def __eq__(self, other: object) -> bool:
        raise TypeError("don't")


@pytest.mark.parametrize("kind", [Box, Rude])
def test_values_that_dont_compare(kind: type[Box]) -> None:
    """What a branch didn't touch doesn't count as changed, though its copy is another object."""
    state: dict[str, Any] = {"box": kind(0), "nested": [kind(0)]}
    forks = BranchStates(state, ["a", "b"], "P")
    forks.of("a")["box"].value = 1
    for name in ("a", "b"):
        forks.finished(name)
    forks.merge()
    assert state["box"].value == 1 and forks.conflicts == []
    assert copy_state(state)["box"] is not state["box"]


def test_merging_again_changes_nothing() -> None:
    """A merge happens once, whoever asks; a branch that ends later isn't merged any more."""
    state: dict[str, Any] = {}
    forks = BranchStates(state, ["a", "b"], "P")
    forks.of("a")["x"], forks.of("b")["y"] = 1, 2
    forks.finished("a")
    forks.merge()
    forks.finished("b")
    forks.merge()
    assert state == {"x": 1}
