"""`run:step:attempt`: the same after a crash, another one wherever the work is another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from database_worker import Worker
from events_workflows import paying
from raw_tables import Db

from desist import Agent, Step, Workflow
from desist.exceptions import ConfigurationError
from desist.run.events.base import RunStatus
from desist.run.options.context import RunContext, idempotency_key
from desist.run.options.idempotency import tool_call_keys
from desist.run.records.message import CANCELLED_RESULT, Message, ToolCall
from desist.testing import Call, Gate, ScriptedModel, ToolCalls

S = RunStatus
Start = Callable[[], Worker]


def test_the_same_after_a_crash(worker: Start, db: Db) -> None:
    """A step that was interrupted by kill -9 runs again in another process with the key that it had."""
    other = worker()
    before = other.start("paying", "r", on_crash="resume", flush=True)["keys"]
    other.kill()
    assert len(set(before)) == len(before) == 5
    assert before[:2] == ["r:0-twice#1.0-pay:1", "r:0-twice#2.0-pay:1"]
    assert sorted(before[2:]) == ["r:1-both.0-left:1", "r:1-both.1-right:1", "r:2-late:1"]
    gate, keys = Gate(), list[str]()
    gate.open()
    workflow = paying(gate, db, on_crash="resume", keys=keys)
    assert workflow.resume_lost_runs() == ["r"]
    assert list(workflow.follow("r"))[-1].status is S.completed
    assert keys == ["r:2-late:1"]


def test_tried_again() -> None:
    """An attempt after an error has a number of its own; a sync function finds its key, too."""
    keys: list[str] = []

    def flaky(_: Any, run_context: RunContext) -> str:
        keys.append(run_context.idempotency_key)
        assert idempotency_key() == keys[-1]
        if len(keys) < 3:
            raise ValueError("again")
        return "done"

    run = Workflow("W", steps=[Step("flaky", executor=flaky)]).run("go", run_id="r")
    assert run.status is S.completed
    assert keys == ["r:0-flaky:1", "r:0-flaky:2", "r:0-flaky:3"]


def test_tool_calls() -> None:
    """Each call of a turn has its key: by tool and arguments, and numbered where those are the same."""
    keys: dict[str, str] = {}

    def charge(amount: int, run_context: RunContext) -> str:
        keys[f"{amount}.{len(keys)}"] = run_context.idempotency_key
        return "charged"

    one, two = ({"amount": amount} for amount in (1, 2))
    model = ScriptedModel(
        [ToolCalls(Call("charge", one), Call("charge", two), Call("charge", one)), ToolCalls(Call("charge", one)), "ok"]
    )
    agent = Agent(model, name="Payer", tools=[charge])
    output = Workflow("W", steps=[Step("pay", agent=agent)]).run("go", run_id="r")
    assert output.status is S.completed
    found = list(keys.values())
    assert len(set(found)) == 4 and all(key.startswith("r:0-pay:1:charge.") and key.endswith(":1") for key in found)
    ones = [key.rsplit(":", 2)[1] for name, key in keys.items() if name.startswith("1.")]
    assert sorted(one.rsplit(".", 1)[1] for one in ones) == ["1", "2", "3"] and len({one[:19] for one in ones}) == 1


def test_a_call_that_was_stopped_is_wanted_again() -> None:
    """After a crash the model is told that a call was stopped; if it wants the same again, that has the same key."""
    wish = ToolCall(id="a", name="charge", arguments='{"amount": 1, "to": "x"}')
    again = ToolCall(id="b", name="charge", arguments='{"to":"x","amount":1}')
    [first] = tool_call_keys([wish], [])
    asked = Message("assistant", None, tool_calls=[wish])
    stopped = Message("tool", CANCELLED_RESULT, tool_call_id="a", cancelled=True)
    assert tool_call_keys([again], [asked, stopped]) == [first]
    done = Message("tool", "charged", tool_call_id="a")
    assert tool_call_keys([again], [asked, done]) == [first[:-1] + "2"]


def test_a_call_that_isn_t_json() -> None:
    """A call whose arguments no tool can read has a name all the same."""
    assert tool_call_keys([ToolCall(id="a", name="odd name!", arguments="{")], [])[0].startswith("odd-name-.")


def test_runs_inside() -> None:
    """Agents and workflows inside a step have keys below its key; two runs that a function starts differ."""
    keys: list[str] = []

    async def note(_: Any) -> str:
        keys.append(idempotency_key())
        return "noted"

    inner = Workflow("Inner", steps=[Step("note", executor=note)])

    async def twice(_: Any) -> str:
        await inner.arun("a")
        await inner.arun("b")
        return idempotency_key()

    outer = Workflow("W", steps=[Step("nested", workflow=inner), Step("twice", executor=twice)])
    output = outer.run("go", run_id="r")
    assert keys == ["r:0-nested:1:0-note:1", "r:1-twice:1:run1:0-note:1", "r:1-twice:1:run2:0-note:1"]
    assert output.content == "r:1-twice:1"


def test_a_workflow_that_is_a_function() -> None:
    """It is one step."""

    async def everything(run_context: RunContext) -> str:
        return run_context.idempotency_key

    assert Workflow("W", steps=everything).run("go", run_id="r").content == "r:0:1"


def test_outside() -> None:
    """Where nothing is done that has a key, asking for one is an error that says where to ask."""
    with pytest.raises(ConfigurationError, match="tools and function steps"):
        idempotency_key()
    seen: list[Any] = []

    def done(outputs: Any, run_context: RunContext) -> bool:
        with pytest.raises(ConfigurationError):
            seen.append(run_context.idempotency_key)
        return True

    from desist import Loop

    loop = Loop(steps=[Step("a", executor=lambda _: "x")], end_condition=done, max_iterations=2)
    assert Workflow("W", steps=[loop]).run("go").status is S.completed
    assert seen == []
