"""Copies of agents and workflows with another database, as a server makes them."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic
import pytest

from desist import (
    Agent,
    Condition,
    Loop,
    OpenAIChat,
    Parallel,
    Router,
    RunStatus,
    Step,
    StepInput,
    Workflow,
    tool,
)
from desist.db import AsyncSqliteDb, InMemoryDb, JsonDb, SqliteDb
from desist.models.anthropic import Claude
from desist.models.openai import OpenAIResponses
from desist.testing import Call, Gate, ScriptedModel
from desist.tools import Toolkit


def test_a_copy_with_another_database_reads_and_writes_there() -> None:
    """Runs, sessions and continuing of a copy use the copy's `db`; the original sees none of them."""
    for made in (Agent(ScriptedModel(["hi"]), name="A"), Workflow("W", steps=[Step("s", executor=lambda given: "hi")])):
        served = copy.copy(made)
        served.db = InMemoryDb()
        output = served.run("x")
        assert served.get_run_output(output.run_id) == output
        assert served.get_session().session_id == output.session_id
        assert list(served.follow(output.run_id))[-1].is_terminal
        assert made.get_run_output(output.run_id) is None


class City(pydantic.BaseModel):
    name: str


def plain(x: int) -> int:
    """Return it."""
    return x


@tool
def decorated(x: int) -> int:
    """Return it."""
    return x


class Kit(Toolkit):
    def __init__(self) -> None:
        super().__init__("kit")
        self.register(self.twice)

    def twice(self, x: int) -> int:
        """Double it."""
        return 2 * x


class Grown(Agent):
    """A subclass of the user's own, with an attribute."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.more = {"a": [1]}


def say(step_input: StepInput) -> str:
    return f"said {step_input.input}"


async def say_async(step_input: StepInput) -> str:
    return "said"


def always(step_input: StepInput) -> bool:
    return True


def choose(step_input: StepInput) -> str:
    return "one"


def whole(workflow: Workflow, execution_input: Any) -> str:
    return "whole"


def model() -> ScriptedModel:
    return ScriptedModel([Call("plain", {"x": 1}), '{"name": "Oslo"}'])


MADE: dict[str, Callable[[], Any]] = {
    "agent": lambda: Agent(model(), name="A", tools=[plain, decorated, Kit()], output_schema=City),
    "subclass": lambda: Grown(model=model(), tools=[plain], output_schema=City),
    "types": lambda: Agent(model(), tools=[plain], output_schema=City | None),
    "JSON schema": lambda: Agent(model(), tools=[plain], output_schema={"type": "object"}),
    "workflow": lambda: Workflow(
        "W",
        steps=[
            Step("s", executor=say),
            say_async,
            Parallel(Step("p", executor=say), Step("a", agent=Agent(model(), tools=[plain]))),
            Loop(steps=[say], max_iterations=2),
            Condition(evaluator=always, steps=[say]),
            Router(choices=[Step("one", executor=say)], selector=choose),
            Workflow("Inner", steps=[say]),
        ],
        session_state={"a": [1]},
        input_schema=str,
    ),
    "function": lambda: Workflow("W", steps=whole),
}
WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda one: pickle.loads(pickle.dumps(one)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", MADE)
def test_copies_run_like_the_original(what: str, way: str) -> None:
    """A copy does what the original does; before and after the original has run."""
    first = WAYS[way](MADE[what]())
    original = MADE[what]()
    expected = original.run("x")
    output = first.run("x")
    assert (output.status, output.error, output.content) == (expected.status, expected.error, expected.content)
    assert output.status is RunStatus.completed
    later = WAYS[way](original)
    assert type(later) is type(original) and repr(later) == repr(original)
    if way != "copy":
        assert later.get_last_run_output() is None and later.get_session() is None
        assert later.get_run_output(expected.run_id) is None


def test_a_deep_copy_shares_nothing_but_the_database(tmp_path: Path) -> None:
    """Settings of the copy may be changed; runs of both are in the one database."""
    db = SqliteDb(tmp_path / "a.db")
    original = Grown(model=model(), name="A", tools=[plain], metadata={"a": [1]}, db=db)
    made = copy.deepcopy(original)
    made.metadata["a"].append(2)
    made.more["a"].append(2)
    made.tools.append(decorated)
    assert (original.metadata, original.more, original.tools) == ({"a": [1]}, {"a": [1]}, [plain])
    assert made.db is db and made.model is not original.model
    output = made.run("x")
    assert original.get_run_output(output.run_id).content == output.content
    pair = copy.deepcopy([original, original])
    assert pair[0] is pair[1]


@pytest.mark.parametrize("kind", ["sqlite", "json"])
def test_a_pickle_opens_its_database_again(kind: str, tmp_path: Path) -> None:
    """In another process as well: the pickle has the path."""
    db = SqliteDb(tmp_path / "a.db") if kind == "sqlite" else JsonDb(tmp_path / "folder")
    original = Workflow("W", steps=[Step("s", executor=say)], db=db)
    output = original.run("x")
    data = pickle.dumps(original)
    db.close()
    made = pickle.loads(data)
    assert made.get_run_output(output.run_id).content == "said x"
    made.db.close()


def test_an_async_database_is_pickled_too(tmp_path: Path) -> None:
    """`AsyncSqliteDb` is opened again as what it is."""
    db = AsyncSqliteDb(tmp_path / "a.db")
    assert copy.deepcopy(db) is db
    made = pickle.loads(pickle.dumps(db))
    assert type(made) is AsyncSqliteDb and made.db_file == db.db_file


class Holder:
    """An object that holds a lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("make", "way", "words"),
    [
        (lambda: Agent(model(), db=InMemoryDb()), "pickle", "InMemoryDb can't be pickled: its runs are in the memory"),
        (lambda: Agent(model(), dependencies={"a": Holder()}), "deepcopy", "because its dependencies= can't"),
        (lambda: Workflow("W", steps=[lambda _: "x"]), "pickle", "<lambda>"),
    ],
)
def test_what_cannot_be_copied_is_said(make: Callable[[], Any], way: str, words: str) -> None:
    """The error names what is in the way."""
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError), match=words):
        WAYS[way](make())


@pytest.mark.parametrize("make", [OpenAIChat, OpenAIResponses, Claude])
def test_models_are_copied(make: Any) -> None:
    """A deep copy shares the HTTP client of the user's own; a pickle has the settings."""
    client = threading.Lock()  # can't be copied, as a client can't
    made = make(id="m", api_key="k", http_client=client, extra_body={"a": [1]})
    copied = copy.deepcopy(made)
    assert copied == made and copied.http_client is client and copied.extra_body["a"] is not made.extra_body["a"]
    made.http_client = None
    assert pickle.loads(pickle.dumps(made)) == made


def test_copies_of_a_live_agent() -> None:
    """While it runs: the copy is idle, and cancelling the one run leaves the copy alone."""
    gate = Gate()
    agent = Agent(ScriptedModel([["a ", gate, "b"]], repeat=True))
    with agent.run("x", stream=True) as events:
        gate.wait_reached()
        made = copy.deepcopy(agent)
        agent.cancel(events.run_id)
    gate.open()
    assert made.run("x").content == "a b"
