"""What is wrong with a workflow is said before anything runs, where it can be known, and names the step."""

from __future__ import annotations

from typing import Any

import pytest

from desist import Agent, Condition, Loop, Parallel, Router, Step, Steps, Workflow
from desist.exceptions import ConfigurationError, UnsupportedError
from desist.testing import ScriptedModel


def _nothing(given: Any) -> bool:
    return True


def _generator(given: Any) -> Any:
    yield True


AGENT = Agent(ScriptedModel("x"), name="A")

WRONG: list[tuple[Any, str]] = [
    (lambda: Steps("s", steps=[]), "Steps 's' is empty: give it some steps"),
    (lambda: Steps("s"), "Steps 's' is empty"),
    (lambda: Parallel(), "Parallel 'Parallel' is empty"),
    (lambda: Parallel("p"), "Parallel 'p' is empty"),
    (lambda: Parallel("p", _nothing, name="q"), "two names, 'p' and name='q'"),
    (lambda: Parallel("p", [_nothing]), "step 0 of Parallel 'p' is [<function _nothing"),
    (lambda: Parallel("p", _nothing, siblings="kill"), "siblings='kill' of Parallel 'p' isn't known"),
    (lambda: Loop([], "l"), "Loop 'l' is empty"),
    (lambda: Loop(_nothing, "l"), "steps= of Loop 'l' must be a list, not <function _nothing"),
    (lambda: Loop([_nothing], "l", max_iterations=0), "max_iterations=0 of Loop 'l' must be a whole number, 1 or more"),
    (lambda: Loop([_nothing], "l", max_iterations=2.5), "max_iterations=2.5"),
    (lambda: Loop([_nothing], "l", end_condition=3), "end_condition= of Loop 'l' must be a function, not 3"),
    (lambda: Loop([_nothing], "l", end_condition=_generator), "'_generator' is a generator"),
    (lambda: Condition([], _nothing, name="c"), "Condition 'c' is empty"),
    (lambda: Condition([_nothing], 7, name="c"), "evaluator= of Condition 'c' must be a function, not 7"),
    (lambda: Condition([_nothing], _nothing, [3], "c"), "step 0 of Condition 'c' is 3"),
    (lambda: Router([], _nothing, "r"), "Router 'r' is empty: give it some choices"),
    (lambda: Router("abc", _nothing, "r"), "choices= of Router 'r' must be a list, not 'abc'"),
    (lambda: Router([_nothing], name="r"), "Router 'r' has no selector"),
    (lambda: Router([[]], _nothing, name="r"), "Steps 'sequence' is empty"),
    (lambda: Steps("s", steps=[_nothing, Step("_nothing", agent=AGENT)]), "Steps 's' has two steps named '_nothing'"),
    (lambda: Parallel("p", AGENT, AGENT), "Parallel 'p' has two steps named 'A'"),
    (lambda: Router([AGENT, Step("A", executor=_nothing)], _nothing, "r"), "Router 'r' has two steps named 'A'"),
    (lambda: Workflow("W", steps=[Step]), "step 0 of workflow 'w' is <class"),
    (lambda: Workflow("W", steps={"a": 1}), "must be a list, not {'a': 1}"),
    (lambda: Step("s", workflow="W"), "workflow= of step 's' must be a Workflow, not 'W'"),
    (lambda: Step("s", workflow=Workflow("W", steps=[_nothing]), agent=AGENT), "'s' has both agent= and workflow="),
    (
        lambda: Step("s", workflow=Workflow("W", steps=[_nothing]), interrupt="never"),
        "are for executor=, not workflow=",
    ),
]


@pytest.mark.parametrize(("make", "words"), WRONG, ids=[words for _, words in WRONG])
def test_what_is_wrong_is_said_when_it_is_made(make: Any, words: str) -> None:
    """Malformed lists, empty containers, names that are taken, values that can't be: an error that names them."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Condition([_nothing], "input == 'x'", name="c"), "evaluator= of Condition 'c' is the text"),
        (lambda: Loop([_nothing], "l", end_condition="true"), "end_condition= of Loop 'l' is the text 'true'"),
        (lambda: Router([_nothing], "a", "r"), "selector= of Router 'r' is the text 'a': expressions aren't supported"),
        (lambda: Parallel(_nothing, human_review=1), "Parallel has no parameter human_review="),
        (lambda: Step("s", executor=_nothing, team=1), "Step has no parameter team="),
    ],
)
def test_what_there_isnt_is_refused_by_name(make: Any, words: str) -> None:
    """Expressions, human review of a Parallel, teams: not built, and not accepted without an effect."""
    with pytest.raises(UnsupportedError) as caught:
        make()
    assert words in str(caught.value)


def test_a_workflow_that_is_inside_of_itself() -> None:
    """A in B in A: an error before anything runs that names the step; also through containers, and a container in
    itself. One workflow in two places is fine."""
    ran: list[Any] = []
    first = Workflow("A", steps=[ran.append])
    second = Workflow("B", steps=[Step("into A", workflow=first)])
    first.steps.append(Steps("box", steps=[Step("into B", workflow=second)]))
    with pytest.raises(ConfigurationError, match="step 'into A' of workflow 'b' leads back to <Workflow A>"):
        first.run()
    with pytest.raises(ConfigurationError, match="step 'into B' of Steps 'box' leads back to <Workflow B>"):
        second.run(stream=True)
    loop = Loop([ran.append], "L")
    loop.steps.append(loop)
    with pytest.raises(ConfigurationError, match="step 'L' of Loop 'L' leads back to <Loop L>"):
        Workflow("W", steps=[loop]).run()
    assert ran == []
    leaf = Workflow("leaf", steps=[ran.append])
    Workflow("W", steps=[Step("one", workflow=leaf), Steps("box", steps=[Step("two", workflow=leaf)])]).run()
    assert len(ran) == 2


def test_what_agents_lack_is_known_before() -> None:
    """An agent without a model, deep inside, also in a nested workflow or a branch that wouldn't run: nothing runs."""
    ran: list[Any] = []
    bare = Agent(name="Bare")
    inner = Workflow("inner", steps=[Condition([ran.append], True, [Parallel("P", bare)], "C")])
    with pytest.raises(ConfigurationError, match="agent 'Bare' has no model"):
        Workflow("W", steps=[ran.append, Loop([inner], "L")]).run()
    with pytest.raises(ConfigurationError, match="workflow 'empty' has no steps"):
        Workflow("W", steps=[ran.append, Workflow("empty")]).run()
    assert ran == []
