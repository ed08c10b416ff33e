"""Steps, Loop, Condition, Router, nested workflows and workflows that are a function: what runs, with what, in what
order; and that each nests in each."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from cancel_trial import PATIENCE, Journal, Mode, Trial, check_record, check_stopped
from event_grammar import check_grammar

from desist import (
    Agent,
    Condition,
    Loop,
    Parallel,
    Router,
    RunContext,
    Step,
    StepInput,
    StepOutput,
    Steps,
    Workflow,
    runs,
)
from desist.cancel import RunStatus, Source
from desist.cancel.registry import registry
from desist.testing import Gate, ScriptedModel
from desist.workflow import WorkflowExecutionInput


def _run(workflow: Workflow, mode: Mode, asked: Any = "go", **options: Any) -> Trial:
    trial = Trial(workflow, mode).start(asked, **options).finish()
    assert trial.error is None, trial.error
    if mode.stream:
        check_grammar(trial.events, trial.run_id)
    return trial


def _names(outputs: Any) -> list[Any]:
    """Return the names in a tree of outputs."""
    return [(o["step_name"], _names(o["steps"])) if o.get("steps") else o["step_name"] for o in outputs]


# -- Loop


def test_a_loop_ends_when_it_is_enough(mode: Mode, journal: Journal) -> None:
    """`end_condition` is given the outputs of each round, sync or async; the content is that of the last round."""
    asked: list[list[Any]] = []

    async def enough(outputs: list[StepOutput]) -> bool:
        asked.append([output.content for output in outputs])
        return len(asked) == 2

    counter = iter(range(10))
    steps = [Step("draft", executor=lambda given: f"draft {next(counter)}"), Step("check", executor=lambda given: "ok")]
    trial = _run(Workflow("W", steps=[Loop(steps, "L", max_iterations=5, end_condition=enough)], db=journal), mode)
    stored = journal.last(trial.run_id)
    assert asked == [["draft 0", "ok"], ["draft 1", "ok"]] and stored["content"] == "ok"
    assert _names(stored["step_results"]) == [("L", ["draft", "check", "draft", "check"])]
    if mode.stream:
        rounds = [(e.event, e.iteration) for e in trial.events if e.event.startswith("LoopIteration")]
        assert [number for _, number in rounds] == [1, 1, 2, 2]
        assert [e.should_continue for e in trial.events if e.event == "LoopIterationCompleted"] == [True, False]


def test_a_loop_has_an_end(mode: Mode, journal: Journal) -> None:
    """Without an end condition it runs `max_iterations` rounds: 3, if nothing is said."""
    ran: list[int] = []
    _run(Workflow("W", steps=[Loop([lambda given: ran.append(1)], "L")], db=journal), mode)
    assert len(ran) == 3


@pytest.mark.parametrize("forward", [False, True], ids=["anew", "forwarded"])
def test_what_a_round_begins_with(forward: bool, mode: Mode, journal: Journal) -> None:
    """Each round begins with what the loop was given, or, if that is asked for, with what the last round made."""
    seen: list[Any] = []

    def add(given: StepInput) -> str:
        seen.append((given.previous_step_content, given.get_step_content("add")))
        return f"{given.previous_step_content}+"

    loop = Loop([add], "L", max_iterations=3, forward_iteration_output=forward)
    trial = _run(Workflow("W", steps=[lambda given: "x", loop], db=journal), mode)
    if forward:
        assert seen == [("x", None), ("x+", "x+"), ("x++", "x++")] and trial.output.content == "x+++"
    else:
        assert seen == [("x", None)] * 3 and trial.output.content == "x+"


def test_a_step_says_stop_in_a_loop(mode: Mode, journal: Journal) -> None:
    """`StepOutput(stop=True)` ends the round, the loop and the workflow, and nothing is asked."""
    never: list[Any] = []
    steps = [Step("stop", executor=lambda given: StepOutput(content="enough", stop=True)), never.append]
    loop = Loop(steps, "L", end_condition=never.append)
    trial = _run(Workflow("W", steps=[loop, Step("after", executor=never.append)], db=journal), mode)
    assert trial.output.content == "enough" and never == []


# -- Condition


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize("kind", ["bool", "sync", "async", "by name"])
def test_a_condition_chooses_a_branch(kind: str, holds: bool, mode: Mode, journal: Journal) -> None:
    """The evaluator is a bool or a function, sync or async, of the input, the state and the context."""

    def by_name(given: StepInput, session_state: dict[str, Any], run_context: RunContext) -> bool:
        assert run_context.session_state is session_state and given.input == "go"
        return session_state["holds"]

    async def asynchronous(given: StepInput) -> bool:
        return holds

    evaluator = {"bool": holds, "sync": lambda given: holds, "async": asynchronous, "by name": by_name}[kind]
    yes, no = Step("yes", executor=lambda given: "yes"), Step("no", executor=lambda given: "no")
    workflow = Workflow("W", steps=[Condition([yes], evaluator, [no], "C")], db=journal)
    trial = _run(workflow, mode, session_state={"holds": holds})
    assert trial.output.content == ("yes" if holds else "no")
    stored = journal.last(trial.run_id)["step_results"][0]
    assert stored["chosen"] == ["if" if holds else "else"]
    if mode.stream:
        [began] = [e for e in trial.events if e.event == "ConditionExecutionStarted"]
        [ended] = [e for e in trial.events if e.event == "ConditionExecutionCompleted"]
        assert began.condition_result is holds and ended.branch == stored["chosen"][0] and ended.executed_steps == 1


def test_a_condition_that_runs_nothing_passes_on_what_it_was_given(mode: Mode, journal: Journal) -> None:
    """No else_steps: the next step works on what came before the condition."""
    never: list[Any] = []
    after = Step("after", executor=lambda given: f"after {given.previous_step_content}")
    steps = [lambda given: "first", Condition([never.append], lambda given: False, name="C"), after]
    trial = _run(Workflow("W", steps=steps, db=journal), mode)
    assert trial.output.content == "after first" and never == []


# -- Router


def _choices() -> list[Any]:
    return [Step(name, executor=functools.partial(_says, name)) for name in "abc"]


def _says(name: str, given: StepInput) -> str:
    return f"{name} after {given.previous_step_content}"


CHOICES = _choices()


@pytest.mark.parametrize(
    ("answer", "ran"),
    [
        ("b", ["b"]),
        (CHOICES[2], ["c"]),
        (["c", "a"], ["c", "a"]),
        ([CHOICES[1], "a"], ["b", "a"]),
        (lambda given: "not called", ["<lambda>"]),
    ],
    ids=["name", "step", "names", "both", "function"],
)
def test_a_router_runs_what_was_chosen(answer: Any, ran: list[str], mode: Mode, journal: Journal) -> None:
    """A selector returns a choice or its name, or a list of these; they run in that order, each after the other."""
    choices = [*CHOICES, answer] if callable(answer) else CHOICES
    router = Router(choices, lambda given: answer, "R")
    trial = _run(Workflow("W", steps=[lambda given: "start", router], db=journal), mode)
    stored = journal.last(trial.run_id)["step_results"][1]
    assert stored["chosen"] == ran and [step["step_name"] for step in stored["steps"]] == ran
    if ran == ["c", "a"]:
        assert trial.output.content == "a after c after start"
    if mode.stream:
        [began] = [event for event in trial.events if event.event == "RouterExecutionStarted"]
        assert began.selected_steps == ran


def test_a_list_is_one_choice(mode: Mode, journal: Journal) -> None:
    """A nested list in `choices` is a sequence; the selector may say the list, or its name, and sees the choices."""
    group = _choices()[:2]
    seen: list[str] = []

    async def select(given: StepInput, step_choices: list[Any]) -> Any:
        seen.extend(step.name for step in step_choices)
        return group if given.input == "list" else "a + b"

    workflow = Workflow("W", steps=[Router([group, CHOICES[2]], select, "R")], db=journal)
    for asked in ("list", "name"):
        trial = _run(workflow, mode, asked)
        assert trial.output.content == "b after a after None"
        assert _names(journal.last(trial.run_id)["step_results"]) == [("R", [("a + b", ["a", "b"])])]
    assert seen == ["a + b", "c"] * 2


@pytest.mark.parametrize("answer", ["nope", None, [], ["a", "nope"], 7], ids=repr)
def test_a_selector_that_names_nothing(answer: Any, mode: Mode, journal: Journal) -> None:
    """A selector that names nothing: the run fails, and the error names the router and what it may choose."""
    never: list[Any] = []
    steps = [Router([*_choices()], lambda given: answer, "pick"), never.append]
    trial = _run(Workflow("W", steps=steps, db=journal), mode)
    stored = journal.last(trial.run_id)
    assert stored["status"] == "ERROR" and never == []
    for words in ("Router 'pick'", "'a', 'b', 'c'", "nope" if "nope" in str(answer) else repr(answer)):
        assert words in stored["error"]


# -- questions that fail


@pytest.mark.parametrize(
    "what", ["evaluator= of Condition 'x'", "selector= of Router 'x'", "end_condition= of Loop 'x'"]
)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_question_that_raises(what: str, is_async: bool, mode: Mode, journal: Journal) -> None:
    """An evaluator, selector or end condition that raises fails the run, once, with an error that names the container:
    what should run isn't known."""
    asked, never = [], []

    def bad(given: Any) -> bool:
        asked.append(1)
        raise ValueError("no idea")

    async def bad_async(given: Any) -> bool:
        return bad(given)

    question, inner = bad_async if is_async else bad, Step("in", executor=lambda given: "in")
    container: Any = {
        "e": lambda: Condition([inner], question, name="x"),
        "s": lambda: Router([inner], question, name="x"),
        "end_condition= of Loop 'x'": lambda: Loop([inner], "x", end_condition=question),
    }[what if what.startswith("end") else what[0]]()
    trial = _run(Workflow("W", steps=[container, never.append], db=journal), mode)
    stored = journal.last(trial.run_id)
    assert stored["status"] == "ERROR" and stored["error"] == f"{what} raised ValueError: no idea"
    assert asked == [1] and never == []
    [output] = stored["step_results"]
    assert output["step_name"] == "x" and not output["success"] and not output["cancelled"]
    if mode.stream:
        assert [e.step_name for e in trial.events if e.event == "StepError"] == ["x"]


# -- a workflow in a workflow


def test_a_workflow_in_a_workflow(mode: Mode, journal: Journal) -> None:
    """A nested workflow is a child run: its events are in the stream, deeper; its output is among the executors'; its
    steps are found by name; it shares the session state; the root's id comes first."""
    agent = Agent(ScriptedModel(["the answer"]), name="A", db=journal)

    def remember(given: StepInput, session_state: dict[str, Any]) -> str:
        session_state["seen"] = (given.input, session_state["own"])
        return f"asked {given.input}"

    inner = Workflow("Inner", steps=[remember, Step("ask", agent=agent)], session_state={"own": 1}, db=journal)
    after = Step("after", executor=lambda given: (given.previous_step_content, given.get_step_content("remember")))
    state: dict[str, Any] = {}
    workflow = Workflow("Outer", steps=[lambda given: "first", Step(workflow=inner), after], db=journal)
    trial = _run(workflow, mode, session_state=state)
    stored = journal.last(trial.run_id)
    assert stored["content"] == ["the answer", "asked first"] and state["seen"] == ("first", 1)
    nested = stored["step_results"][1]
    assert (nested["step_type"], nested["executor_type"], nested["step_name"]) == ("Workflow", "workflow", "Inner")
    runs = stored["step_executor_runs"]
    assert [run.get("workflow_name") for run in runs] == ["Inner"] and runs[0]["parent_run_id"] == trial.run_id
    assert runs[0]["workflow_step_id"] == nested["step_id"] and runs[0]["run_id"] == nested["step_run_id"]
    if mode.stream:
        assert trial.events[0].run_id == trial.run_id
        talk = [event for event in trial.events if event.event == "RunContent"]
        assert {(e.workflow_run_id, e.parent_run_id, e.nested_depth) for e in talk} == {
            (trial.run_id, runs[0]["run_id"], 1)
        }
        depths = {e.step_name: e.nested_depth for e in trial.events if e.event == "StepStarted"}
        assert depths == {"<lambda>": 0, "Inner": 0, "remember": 1, "ask": 1, "after": 0}


@pytest.mark.parametrize("by_id", ["root", "nested", "agent"])
@pytest.mark.parametrize("scope", ["tree", "run"])
def test_a_nested_workflow_is_cancelled_by_any_id(by_id: str, scope: str, mode: Mode, journal: Journal) -> None:
    """B6: the id of the root, of the nested workflow or of its agent stops all; a nested run alone takes its parents
    along: none of them completes as if nothing was."""
    gate, never = Gate(), []
    agent = Agent(ScriptedModel([["begins ", gate, "never"]]), name="A", db=journal)
    inner = Workflow("Inner", steps=[lambda given: "in", Step("ask", agent=agent), never.append], db=journal)
    trial = Trial(Workflow("Outer", steps=[inner, never.append], db=journal), mode).start()
    gate.wait_reached()
    ids = {"workflow" if run.run_id != trial.run_id else "root": run.run_id for run in registry.live()
           if run.body.kind == "workflow"}  # fmt: skip
    [agent_id] = [run.run_id for run in registry.live() if run.body.kind == "agent"]
    target = {"root": trial.run_id, "nested": ids["workflow"], "agent": agent_id}[by_id]
    receipt = trial.runner.cancel(target, reason="enough", by="me", scope=scope)
    assert receipt and receipt.run_id == (target if scope == "run" else trial.run_id) and receipt.wait(PATIENCE)
    trial.finish()
    assert never == [] and trial.output.status is RunStatus.cancelled
    alone = scope == "run" and by_id != "root"
    check_record(trial.output.cancel, reason="enough", by="me", source=Source.child if alone else Source.user)
    assert {journal.last(run_id)["status"] for run_id in (*ids.values(), agent_id)} == {"CANCELLED"}
    [step] = journal.last(trial.run_id)["step_results"]
    assert step["cancelled"] and step["content"] == "begins "
    assert [(inside["content"], inside["cancelled"]) for inside in step["steps"]] == [("in", False), ("begins ", True)]
    if mode.stream:
        check_grammar(trial.events, trial.run_id)
        assert trial.events[-1].run_id == trial.run_id


def test_a_nested_workflow_may_be_skipped(mode: Mode, journal: Journal) -> None:
    """on_cancel="skip": a nested workflow that is cancelled alone is recorded as cancelled, and the next step runs."""
    gate = Gate()
    inner = Workflow("Inner", steps=[Agent(ScriptedModel([["begins ", gate]]), name="A", db=journal)], db=journal)
    after = Step("after", executor=lambda given: f"after {given.previous_step_content}")
    trial = Trial(Workflow("Outer", steps=[Step(workflow=inner, on_cancel="skip"), after], db=journal), mode).start()
    gate.wait_reached()
    [nested] = [run.run_id for run in registry.live() if run.body.kind == "workflow" and run.run_id != trial.run_id]
    assert trial.runner.cancel(nested, scope="run").wait(PATIENCE)
    trial.finish()
    stored = journal.last(trial.run_id)
    assert stored["status"] == "COMPLETED" and stored["content"] == "after begins "
    assert stored["step_results"][0]["cancelled"] and journal.last(nested)["status"] == "CANCELLED"
    if mode.stream:
        check_grammar(trial.events, trial.run_id)


# -- a workflow that is a function


@pytest.mark.parametrize("kind", ["sync", "async", "generator", "async generator"])
def test_a_workflow_that_is_a_function(kind: str, mode: Mode, journal: Journal) -> None:
    """`steps=f` with `f(workflow, execution_input)`: sync or async, plain or a generator; agents in it are children,
    what it yields is streamed, and its result is the content."""
    agent = Agent(ScriptedModel(["said"]), name="A", db=journal)

    def sync(workflow: Workflow, execution_input: WorkflowExecutionInput, session_state: dict[str, Any]) -> str:
        session_state["by"] = workflow.name
        return f"{agent.run(execution_input.input).content} about {execution_input.input}"

    async def asynchronous(owner: Workflow, asked: WorkflowExecutionInput, session_state: dict[str, Any]) -> str:
        session_state["by"] = owner.name
        return f"{(await agent.arun(asked.input)).content} about {asked.input}"

    def generator(execution_input: WorkflowExecutionInput, session_state: dict[str, Any]) -> Any:
        session_state["by"] = "W"
        yield from agent.run(execution_input.input, stream=True)
        yield f" about {execution_input.input}"

    async def generator_async(asked: WorkflowExecutionInput, run_context: RunContext) -> Any:
        run_context.session_state["by"] = run_context.workflow_name
        async for event in agent.arun(asked.input, stream=True):
            yield event
        yield f" about {asked.input}"

    steps = {"sync": sync, "async": asynchronous, "generator": generator, "async generator": generator_async}[kind]
    state: dict[str, Any] = {}
    trial = _run_loosely(Workflow("W", steps=steps, db=journal), mode, session_state=state)
    stored = journal.last(trial.run_id)
    assert stored["status"] == "COMPLETED" and stored["content"] == "said about go" and state == {"by": "W"}
    [child] = {run_id for run_id, _, _ in journal.saved} - {trial.run_id}
    assert journal.last(child)["parent_run_id"] == trial.run_id
    if mode.stream and "generator" in kind:
        assert "".join(event.content for event in trial.events if event.is_content) == "said about go"


def _run_loosely(workflow: Workflow, mode: Mode, **options: Any) -> Trial:
    trial = Trial(workflow, mode).start(**options).finish()
    assert trial.error is None, trial.error
    return trial


def test_a_workflow_that_is_a_function_is_cancelled(mode: Mode, journal: Journal) -> None:
    """A17: cancelled in an agent that its function runs, the agent stops with it, and what was yielded is kept."""
    gate, never = Gate(), []
    agent = Agent(ScriptedModel([["begins ", gate, "never"]]), name="A", db=journal)

    async def function(workflow: Workflow, execution_input: WorkflowExecutionInput) -> Any:
        yield "kept"
        await agent.arun("go")
        never.append(1)

    trial = Trial(Workflow("W", steps=function, db=journal), mode).start()
    gate.wait_reached()
    receipt = trial.cancel()
    assert receipt.wait(PATIENCE)
    trial.finish()
    check_stopped(trial, receipt)
    assert trial.output.content == "kept" and never == []
    assert len({run_id for run_id, _, _ in journal.saved}) == 2
    assert {journal.last(run_id)["status"] for run_id, _, _ in journal.saved} == {"CANCELLED"}


# -- all together


class Counter:
    """A step that is an object."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, given: StepInput) -> str:
        self.calls += 1
        return f"call {self.calls}"

    async def method(self, given: StepInput) -> str:
        return "method"


def test_anything_that_can_be_called_is_a_step(mode: Mode, journal: Journal) -> None:
    """Functions, objects with `__call__`, partials, lambdas and bound methods, sync or async."""
    counter = Counter()
    steps = [counter, counter.method, functools.partial(_says, "a"), lambda given: "lambda"]
    trial = _run(Workflow("W", steps=steps, db=journal), mode)
    made = {step["step_name"]: step["content"] for step in journal.last(trial.run_id)["step_results"]}
    assert made == {"Counter": "call 1", "method": "method", "_says": "a after method", "<lambda>": "lambda"}


WRAPS: dict[str, Any] = {
    "steps": lambda name, inner: Steps(name, steps=[inner]),
    "parallel": lambda name, inner: Parallel(name, inner, Step(f"{name} beside", executor=lambda given: "beside")),
    "loop": lambda name, inner: Loop([inner], name, max_iterations=1),
    "if": lambda name, inner: Condition([inner], lambda given: True, name=name),
    "else": lambda name, inner: Condition([lambda given: 1], False, [inner], name),
    "router": lambda name, inner: Router([inner], lambda given: [inner], name),
    "workflow": lambda name, inner: Workflow(name, steps=[inner]),
}


@pytest.mark.parametrize("outer", WRAPS)
@pytest.mark.parametrize("inner", WRAPS)
def test_each_nests_in_each(outer: str, inner: str, journal: Journal) -> None:
    """Every container may stand in every other."""
    leaf = Step("leaf", executor=lambda given: f"leaf of {given.input}")
    workflow = Workflow("W", steps=[WRAPS[outer]("outer", WRAPS[inner]("inner", leaf))], db=journal)
    mode = Mode(asynchronous=False, stream=True)
    trial = _run(workflow, mode)
    assert "leaf of go" in trial.output.content


def test_ten_deep(mode: Mode, journal: Journal) -> None:
    """Ten containers inside one another, cancelled at the bottom: each says so, children first."""
    gate = Gate()
    inner: Any = Step("leaf", agent=Agent(ScriptedModel([["deep ", gate]]), name="A", db=journal))
    kinds = [*WRAPS, "loop", "steps", "parallel"]
    for depth, kind in enumerate(kinds):
        inner = WRAPS[kind](f"c{depth}", inner)
    trial = Trial(Workflow("W", steps=[inner], db=journal), mode).start()
    gate.wait_reached()
    receipt = trial.cancel()
    assert receipt.wait(PATIENCE)
    trial.finish()
    check_stopped(trial, receipt)
    outputs, depth = journal.last(trial.run_id)["step_results"], 0
    while outputs:
        [output] = [one for one in outputs if "beside" not in one["step_name"]]
        assert output["cancelled"], output
        outputs, depth = output.get("steps"), depth + 1
    assert depth == 11
    if mode.stream:
        check_grammar(trial.events, trial.run_id)
        closed = [e.step_name for e in trial.events if e.event == "StepCancelled" and "beside" not in e.step_name]
        assert closed == ["leaf", *(f"c{depth}" for depth in range(10))]


@pytest.mark.parametrize("kind", ["evaluator", "selector", "end_condition"])
@pytest.mark.parametrize("how", ["busy", "async"])
def test_a_question_is_seen_and_stopped(kind: str, how: str, mode: Mode, journal: Journal) -> None:
    """While a container asks, it is what the run is at; a question that never answers is stopped like any user code."""
    gate = Gate()
    gate.open()

    def busy(subject: Any) -> bool:
        gate.wait_blocking()
        while True:
            pass

    shut = Gate()

    async def waits(subject: Any) -> bool:
        await shut.wait()
        return True

    question, inner = busy if how == "busy" else waits, Step("in", executor=lambda given: "in")
    container = {
        "evaluator": lambda: Condition([inner], question, name="x"),
        "selector": lambda: Router([inner], question, "x"),
        "end_condition": lambda: Loop([inner], "x", end_condition=question),
    }[kind]()
    trial = Trial(Workflow("W", steps=[Steps("outer", steps=[container])], db=journal), mode).start()
    (gate if how == "busy" else shut).wait_reached()
    [info] = [info for info in runs() if info.run_id == trial.run_id]
    assert info.steps == ("outer", "x")
    receipt = trial.cancel(grace=PATIENCE)
    assert receipt.wait(PATIENCE) and receipt.abandoned == []
    trial.finish()
    check_stopped(trial, receipt)
    if mode.stream:
        check_grammar(trial.events, trial.run_id)


def test_a_container_may_be_all_there_is(mode: Mode, journal: Journal) -> None:
    """`steps` may be one container instead of a list."""
    workflow = Workflow("W", steps=Loop([lambda given: "turn"], "L", max_iterations=2), db=journal)
    assert _run(workflow, mode).output.content == "turn" and [step.name for step in workflow.steps] == ["L"]
