"""Ids that programs choose: what has a text becomes that text everywhere, other values are refused everywhere."""

from __future__ import annotations

import asyncio
import enum
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from desist import Agent, RunStatus, Step, Workflow, cancel_run, runs
from desist.cancel.registry import registry
from desist.db import BaseDb
from desist.exceptions import ConfigurationError
from desist.run.cancel import acancel, acancel_run, cancel
from desist.run.cancellation_management import InMemoryRunCancellationManager
from desist.run.observability.live import cancel_all, tree
from desist.testing import Gate, ScriptedModel


class Ulid:
    def __str__(self) -> str:
        return "01ARZ3NDEKTSV4RRFFQ69G5FAV"


class Name(enum.StrEnum):
    one = "one"


class Text(str):
    def __str__(self) -> str:
        return "not this"


class Plain(str, enum.Enum):
    one = "one of str"


NUMBER = uuid.UUID("12345678123456781234567812345678")
GOOD = [
    ("text", "text"),
    (NUMBER, "12345678-1234-5678-1234-567812345678"),
    (5, "5"),
    (0, "0"),
    (Ulid(), "01ARZ3NDEKTSV4RRFFQ69G5FAV"),
    (Name.one, "one"),
    (Plain.one, "one of str"),
    (Text("this"), "this"),
    ("größe ☃", "größe ☃"),
    ("a\x00b", "a\x00b"),
]
BAD = [True, 1.5, b"bytes", ["a"], {"a": 1}, ("a",), object(), "\ud800"]


@pytest.mark.parametrize(("given", "text"), GOOD, ids=lambda value: type(value).__name__)
def test_ids_are_stored_and_found_as_text(given: Any, text: str, db: BaseDb) -> None:
    """In every database: the run, its session and user are found by the object and by its text."""
    for component in (Workflow("W", steps=[lambda _: "x"], db=db), Agent(ScriptedModel(["x"]), db=db)):
        output = component.run("x", run_id=given, session_id=given, user_id=given)
        assert output.store_error is None and output.status is RunStatus.completed
        assert (output.run_id, output.session_id, output.user_id) == (text, text, text)
        for asked in (given, text):
            assert component.get_run_output(asked, session_id=asked, user_id=asked).run_id == text
            assert component.get_session(asked, user_id=asked).session_id == text
            assert component.get_session_state(asked) == {}
            assert db.get_run(asked).run_id == text
            assert db.get_session(asked, user_id=asked).session_id == text
            assert [run.run_id for run in db.get_runs(asked)] == [text]
            assert len(db.get_sessions(user_id=asked)) == 1
            assert [event.run_id for event in component.follow(asked)][-1] == text
            assert component.get_session(asked).get_run(asked) is not None
        assert component.set_session_name(given, session_name="n").session_data["session_name"] == "n"
        assert db.rename_session(given, "m") is not None
        assert component.delete_session(given) and db.get_session(text) is None and db.get_run(text) is None


@pytest.mark.parametrize(("given", "text"), GOOD, ids=lambda value: type(value).__name__)
def test_a_run_is_cancelled_by_the_object_and_by_its_text(given: Any, text: str) -> None:
    """All ways to cancel take both, before the run and while it is live."""
    ways: list[Callable[[Any], Any]] = [
        cancel,
        cancel_run,
        lambda asked: asyncio.run(acancel(asked)),
        lambda asked: asyncio.run(acancel_run(asked)),
        InMemoryRunCancellationManager().cancel_run,
        lambda asked: cancel_all(session_id=asked),
    ]
    for way in ways:
        for asked in (given, text):
            gate = Gate()
            agent = Agent(ScriptedModel([["a ", gate]]))
            events = agent.run("x", stream=True, run_id=given, session_id=given)
            gate.wait_reached()
            assert [run.run_id for run in runs(session_id=asked)] == [run.run_id for run in tree(asked)] == [text]
            assert way(asked)
            assert list(events)[-1].event == "RunCancelled"
            assert InMemoryRunCancellationManager().is_cancelled(asked) is False


@pytest.mark.parametrize(("given", "text"), GOOD, ids=lambda value: type(value).__name__)
def test_a_cancel_that_comes_first_finds_its_run(given: Any, text: str) -> None:
    """An intent for the object is one for its text, and the other way round."""
    for first, then in ((given, text), (text, given)):
        registry.reset_after_fork()  # an ended run of this id would answer
        assert not cancel(first)
        assert Agent(ScriptedModel(["x"])).run("x", run_id=then).status is RunStatus.cancelled


@pytest.mark.parametrize("given", BAD, ids=lambda value: type(value).__name__)
def test_what_is_no_id_is_refused_everywhere(given: Any, db: BaseDb) -> None:
    """Nothing has run, nothing is stored, and the message names the parameter."""
    agent, workflow = Agent(ScriptedModel(["x"]), db=db), Workflow("W", steps=[lambda _: "x"], db=db)
    calls: list[Callable[[], Any]] = []
    for component in (agent, workflow):
        for name in ("run_id", "session_id", "user_id"):
            calls.append(lambda component=component, name=name: component.run("x", **{name: given}))  # type: ignore[misc]
            calls.append(lambda component=component, name=name: component.run("x", stream=True, **{name: given}))  # type: ignore[misc]
            calls.append(lambda component=component, name=name: component.arun("x", **{name: given}))  # type: ignore[misc]
        calls.append(lambda component=component: component.get_session(given))  # type: ignore[misc]
        calls.append(lambda component=component: component.get_run_output(given))  # type: ignore[misc]
        calls.append(lambda component=component: component.follow(given))  # type: ignore[misc]
        calls.append(lambda component=component: component.cancel(given))  # type: ignore[misc]
        calls.append(lambda component=component: component.continue_run(run_id=given))  # type: ignore[misc]
        calls.append(lambda component=component: component.delete_session(given))  # type: ignore[misc]
    for name in ("id", "session_id", "user_id"):
        calls.append(lambda name=name: Agent(ScriptedModel(["x"]), **{name: given}))  # type: ignore[misc]
        calls.append(lambda name=name: Workflow("W", **{name: given}))  # type: ignore[misc]
    calls += [
        lambda: Step("s", executor=lambda _: "x", step_id=given),
        lambda: db.get_run(given),
        lambda: db.get_session(given),
        lambda: db.get_sessions(user_id=given),
        lambda: db.delete_run(given),
        lambda: db.cancel(given),
        lambda: cancel(given),
        lambda: asyncio.run(acancel(given)),
        lambda: runs(user_id=given),
        lambda: tree(given),
    ]
    for call in calls:
        with pytest.raises(ConfigurationError, match="id="):
            call()
    assert db.get_sessions() == [] and registry.live() == []


@pytest.mark.parametrize(("given", "text"), GOOD[1:5], ids=lambda value: type(value).__name__)
def test_ids_of_components_are_text(given: Any, text: str) -> None:
    """Of agents, workflows and steps, too."""
    agent = Agent(ScriptedModel(["x"]), id=given, session_id=given, user_id=given)
    workflow = Workflow("W", steps=[Step("s", agent=agent, step_id=given)], id=given, session_id=given)
    output = workflow.run("x")
    assert (output.workflow_id, output.session_id, output.step_results[0].step_id) == (text, text, text)
    assert agent.run("x").agent_id == text
