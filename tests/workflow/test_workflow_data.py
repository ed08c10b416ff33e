"""What a step is given: input, what came before by name, media, additional data, schemas; and that it costs the same
however much came before."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from cancel_trial import Journal, Mode, Trial
from pydantic import BaseModel

from desist import Agent, Loop, Parallel, Step, StepInput, StepOutput, Steps, Workflow
from desist.exceptions import ConfigurationError, DesistError
from desist.testing import ScriptedModel
from desist.workflow.previous_outputs import PreviousOutputs


class Question(BaseModel):
    topic: str
    depth: int = 1


class Answer(BaseModel):
    text: str


def _seen(*before: Any, **options: Any) -> StepInput:
    """Return what a last step is given after these."""
    got: list[StepInput] = []
    Workflow("W", steps=[*before, Step("last", executor=got.append)]).run(**{"input": "go", **options})
    return got[0]


def test_what_came_before_is_found_by_name() -> None:
    """Outputs and contents by step name, into containers; a Parallel's content is a dict by branch."""
    inside = Steps("group", steps=[Step("a", executor=lambda given: "A"), Step("b", executor=lambda given: "B")])
    given = _seen(Step("first", executor=lambda given: {"n": 1}), Parallel("both", inside, lambda given: "C"))
    assert given.get_step_content("first") == {"n": 1}
    assert given.get_step_content("both") == {"group": "B", "<lambda>": "C"}
    assert (given.get_step_content("group"), given.get_step_content("a")) == ("B", "A")
    assert given.get_step_output("a").step_name == "a" and given.get_step_output("nope") is None
    assert given.get_step_content("nope") is None
    joined = "=== group ===\nB\n\n=== <lambda> ===\nC"
    assert given.previous_step_content == joined and given.get_last_step_content() == joined
    assert given.get_all_previous_content() == f'=== first ===\n{{\n  "n": 1\n}}\n\n=== both ===\n{joined}'
    assert list(given.previous_step_outputs) == ["first", "both"] and given.get_input_as_string() == "go"


def test_of_a_loop_the_last_round_is_found() -> None:
    """A step that ran in several rounds is found as it was in the last one."""
    counter = iter("xyz")
    given = _seen(Loop([Step("turn", executor=lambda given: next(counter))], "L"))
    assert given.get_step_content("turn") == "z" == given.get_step_content("L")


def test_media_and_additional_data_are_carried_through() -> None:
    """Media that a run is given, and that steps make, reach every step after; what is only passed on isn't doubled."""

    def draw(given: StepInput) -> StepOutput:
        return StepOutput(content="drawn", images=[*(given.images or ()), "two"], files=["f"])

    again = Step("again", executor=lambda given: StepOutput(images=given.images, videos=["v"]))
    given = _seen(draw, Steps("S", steps=[again]), images=["one"], audio=["a"], additional_data={"k": 1})
    assert (given.images, given.videos, given.audio, given.files) == (["one", "two"], ["v"], ["a"], ["f"])
    assert given.additional_data == {"k": 1}


def test_an_output_that_is_returned_again_is_another_one() -> None:
    """A step that returns what another one made, or one object in every round, changes neither."""
    constant = StepOutput(content="c")
    again = Step("again", executor=lambda given: given.get_step_output("first"))
    steps = [
        Step("first", executor=lambda given: constant),
        again,
        Loop([Step("turn", executor=lambda _: constant)], "L"),
    ]
    output = Workflow("W", steps=steps).run()
    assert [step.step_name for step in output.step_results] == ["first", "again", "L"]
    assert constant.step_name is None and len({id(step) for step in output.step_results[2].steps}) == 3


def test_what_steps_made_is_in_the_output() -> None:
    """The output of a workflow has the media of its steps."""
    output = Workflow("W", steps=[lambda given: StepOutput(images=["one"]), Step("b", executor=lambda given: 1)]).run()
    assert output.images == ["one"] and output.videos is None and output.content == 1


def test_structured_output_stays_an_object(mode: Mode, journal: Journal) -> None:
    """A pydantic object that an agent or function makes is given to the next step as it is."""
    agent = Agent(ScriptedModel([Answer(text="42")]), output_schema=Answer, name="A")
    seen: list[Any] = []
    steps = [
        agent,
        Step("read", executor=lambda given: seen.append(given.previous_step_content) or Question(topic="x")),
    ]
    trial = Trial(Workflow("W", steps=steps, db=journal), mode).start().finish()
    assert trial.error is None and seen == [Answer(text="42")]
    assert journal.last(trial.run_id)["content"] == {"topic": "x", "depth": 1}


def test_the_input_is_checked_against_a_schema(mode: Mode, journal: Journal) -> None:
    """`input_schema`: a dict or an object of it becomes an object; anything else is an error before anything runs."""
    seen: list[Any] = []
    workflow = Workflow("W", steps=[lambda given: seen.append(given.input)], input_schema=Question, db=journal)
    for asked in ({"topic": "t", "depth": "3"}, Question(topic="t", depth=3)):
        trial = Trial(workflow, mode).start(asked).finish()
        assert trial.error is None, trial.error
    assert seen == [Question(topic="t", depth=3)] * 2
    for asked, words in [
        ({"depth": "x"}, "topic: Field required; depth: Input should be"),
        ("text", "input: Input should be a valid dictionary or instance of Question"),
        (None, "input: Input should be a valid dictionary"),
    ]:
        error = Trial(workflow, mode).start(asked).finish().error
        assert isinstance(error, ConfigurationError) and words in str(error) and "workflow 'w'" in str(error)
    assert len(seen) == 2
    with pytest.raises(ConfigurationError, match="input_schema= of workflow 'w' can't be <object"):
        Workflow("W", steps=seen.append, input_schema=object())


def test_a_step_input_goes_to_a_dict_and_back() -> None:
    """`to_dict` is plain; `from_dict` makes outputs of it again, and says what it can't read."""
    given = _seen(lambda given: StepOutput(content="x", images=["i"]), additional_data={"k": (1, 2)})
    data = given.to_dict()
    assert data["additional_data"] == {"k": [1, 2]} and "workflow_session" not in data
    back = StepInput.from_dict(data)
    assert back.get_step_output("<lambda>").images == ["i"] and back.to_dict() == data
    with pytest.raises(DesistError, match="previous_step_outputs"):
        StepInput.from_dict({"previous_step_outputs": 3})


def test_the_outputs_are_a_mapping() -> None:
    """`PreviousOutputs` compares and counts as a dict, goes to another process, and its branches are apart."""
    one, two, three = (StepOutput(content=number) for number in (1, 2, 3))
    start = PreviousOutputs().then("a", one)
    left, right = start.then("b", two), start.then("b", three).then("a", three)
    assert dict(start) == {"a": one} and dict(left) == {"a": one, "b": two}
    assert list(right.items()) == [("b", three), ("a", three)] and len(right) == 2
    assert start == {"a": one} and "b" not in start and left.get("zz") is None and PreviousOutputs() == {}
    assert dict(pickle.loads(pickle.dumps(right))) == dict(right)
    assert PreviousOutputs.of({"a": one}).then("b", two) == left and PreviousOutputs.of(left) is left
    assert repr(left) == "<Outputs of a, b>"


def test_ten_thousand_steps_share_what_came_before() -> None:
    """Each of 10,000 steps sees all before it, by name, and all of them keep one log: memory is linear."""
    logs: set[int] = set()

    def make(number: int) -> Step:
        async def work(given: StepInput) -> int:
            logs.add(id(getattr(given.previous_step_outputs, "_log", None)))
            assert len(given.previous_step_outputs) == number
            assert number == 0 or given.get_step_content(f"s{number // 2}") == number // 2
            return number

        return Step(f"s{number}", executor=work)

    output = Workflow("W", steps=[make(number) for number in range(10_000)]).run()
    assert output.content == 9_999 and len(output.step_results) == 10_000
    assert len(logs) <= 2, "the first is empty, all others are one"


def test_what_steps_used() -> None:
    """Each step has its seconds; agents their tokens; a container the sum of all that is in it, once."""
    agent = Agent(ScriptedModel(["two words"], repeat=True), name="A")
    inner = Workflow("inner", steps=[Step("deep", agent=agent), Parallel("both", Step("x", agent=agent), _echo)])
    steps = [Step("f", executor=_echo), Step("a", agent=agent), Steps("box", steps=[Step("b", agent=agent), inner])]
    used = Workflow("W", steps=steps).run("go").metrics
    assert used is not None and {"f", "a", "box", "inner", "deep", "x"} <= set(used.steps)
    assert all(0 < step.duration <= used.duration for step in used.steps.values())
    agents = {name: used.steps[name].metrics for name in ("a", "box", "inner")}
    assert used.steps["f"].metrics is None
    assert {name: (one.output_tokens, one.model_calls) for name, one in agents.items()} == {
        "a": (2, 1),
        "box": (6, 3),
        "inner": (4, 2),
    }


def _echo(given: StepInput) -> Any:
    return given.input
