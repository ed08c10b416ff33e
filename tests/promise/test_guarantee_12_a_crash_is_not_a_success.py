"""Guarantee 12. A crash is not a success: C1, C7: a process is killed in mid-run, another one loads what it left."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from db_crash_program import open_db
from provider_message_rules import check_messages

from desist import Agent, Workflow
from desist.db import BaseDb, JsonDb
from desist.run.events.base import RunStatus
from desist.run.records.message import CANCELLED_RESULT
from desist.testing import ScriptedModel
from desist.workflow import StepOutput

PROGRAM = Path(__file__).with_name("db_crash_program.py")
S = RunStatus
Crash = Callable[[str], BaseDb]


@pytest.fixture(params=["sqlite", "postgres", "json"])
def crash(request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]) -> Iterator[Crash]:
    """Runs a scene until it waits, kills it with SIGKILL, and opens what it left."""
    opened: list[BaseDb] = []
    place = new_postgres() if request.param == "postgres" else str(tmp_path)

    def run(scene: str) -> BaseDb:
        command = [sys.executable, str(PROGRAM), request.param, place, scene]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert child.stdout is not None and child.stderr is not None
        word = child.stdout.readline()
        child.kill()
        _, told = child.communicate()
        assert word == b"READY\n", told.decode()
        opened.append(open_db(request.param, place))
        return opened[-1]

    yield run
    for db in opened:
        db.close()


def next_request(db: BaseDb, script: str = "all is well") -> list[Any]:
    """Ask the same session again, and return what the model was told."""
    model = ScriptedModel([script])
    agent = Agent(model, name="Worker", instructions="Be brief.", db=db, add_history_to_context=True)
    output = agent.run("and now?", session_id="s")
    assert output.status is RunStatus.completed
    return model.requests[0].messages


def test_killed_in_a_stream(crash: Crash) -> None:
    """Killed while the model spoke: the run is an error that says so, and the session goes on."""
    db = crash("in_a_stream")
    output = db.get_run("r")
    assert output.status is RunStatus.error
    assert "ended without storing the end" in output.error
    messages = next_request(db)
    check_messages(messages)
    assert [message.role for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[1].content == "tell me"
    keeps_events = not isinstance(db, JsonDb)
    assert ("half an answer" in str(messages)) == keeps_events
    assert (output.content == "half an answer") == keeps_events


def test_killed_in_a_tool(crash: Crash) -> None:
    """C1: tool A's result is kept, B gets a synthetic one, nothing dangles, and the next prompt is valid."""
    db = crash("in_a_tool")
    output = db.get_run("r")
    assert output.status is RunStatus.error
    results = {message.tool_call_id: message.content for message in output.messages if message.role == "tool"}
    assert results == {"a": "A is done", "b": CANCELLED_RESULT}
    assert {tool.tool_call_id: tool.cancelled for tool in output.tools} == {"a": False, "b": True}
    assert output.content == "I will look."
    messages = next_request(db)
    check_messages(messages)
    assert [message.content for message in messages if message.role == "tool"] == ["A is done", CANCELLED_RESULT]


def test_killed_between_steps(crash: Crash) -> None:
    """Finished steps are kept as they were, with the runs of their agents; the session's next run works."""
    db = crash("between_steps")
    output = db.get_run("r")
    assert output.status is RunStatus.error
    assert [(step.step_name, step.content, step.success) for step in output.step_results] == [
        ("one", "one is done", True),
        ("two", "a finished text", True),
    ]
    assert all(isinstance(step, StepOutput) for step in output.step_results)
    assert [(run.agent_name, run.status) for run in output.step_executor_runs] == [("Writer", RunStatus.completed)]
    told: list[Any] = []
    again = Workflow("W", steps=[lambda given: told.append(given.get_workflow_history())], db=db)
    assert again.run("more", session_id="s").status is RunStatus.completed
    assert told == [[("go", "[This failed before there was an answer.]")]]


def test_killed_in_a_container(crash: Crash) -> None:
    """What finished in containers that were open is kept where it belongs."""
    output = crash("in_a_container").get_run("r")
    before, outer = output.step_results
    assert (before.step_name, before.content) == ("before", "before is done")
    assert (outer.step_name, outer.success) == ("outer", False)
    assert [(step.step_name, step.success) for step in outer.steps] == [("first", True), ("inner", True)]
    assert [step.content for step in outer.steps[1].steps] == ["deep is done", "deeper too"]


def test_killed_while_cancelling(crash: Crash, request: pytest.FixtureRequest) -> None:
    """A cancel that was recorded holds, though its process died before the run had settled; an unrecorded one can't."""
    output = crash("while_cancelling").get_run("r")
    if request.node.callspec.params["crash"] == "json":  # keeps no requests
        assert output.status is RunStatus.error
        return
    assert (output.status, output.error, output.cancel.reason) == (RunStatus.cancelled, None, "enough")
    assert output.cancel.settled_at >= output.cancel.delivered_at


def test_seen_by_whoever_looks(crash: Crash) -> None:
    """The run is given its end by whichever look comes first: at the run, its session, or the session's history."""
    db = crash("in_a_stream")
    session = db.get_session("s")
    assert [run.status for run in session.runs] == [RunStatus.error]
    assert json.loads(json.dumps(session.to_dict()))["runs"][0]["status"] == "ERROR"
    assert db.get_run("r").status is RunStatus.error


def test_ended_once(crash: Crash) -> None:
    """A run that was given its end keeps it: a second look changes nothing."""
    db = crash("in_a_tool")
    first = db.get_run("r")
    assert db.get_run("r") == first
    assert db.store.load_run("r").status is RunStatus.error  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "json"])
@pytest.mark.parametrize("shown", [1, 8, 21])
def test_killed_anywhere(kind: str, shown: int, tmp_path: Path, new_postgres: Callable[[], str]) -> None:
    """Killed at any moment of busy work: what was shown as ended is stored so, and everything else is given an end.

    No session holds a run that is told to be running, and each can be asked again with a valid history.
    """
    place = new_postgres() if kind == "postgres" else str(tmp_path)
    command = [sys.executable, str(PROGRAM.with_name("db_busy_program.py")), kind, place]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(shown)]
    child.kill()
    rest, told = child.communicate()
    assert all(lines), told.decode()
    ended = dict(line.decode().split() for line in [*lines, *rest.splitlines(keepends=True)] if line.endswith(b"\n"))
    db = open_db(kind, place)
    assert {run_id: db.get_run(run_id).status.value for run_id in ended} == ended
    for session in db.get_sessions("workflow"):
        assert {run.status for run in session.runs} <= {S.completed, S.cancelled, S.error}
        counted = sum(1 for run in session.runs if run.status in (S.completed, S.cancelled))
        assert session.session_state.get("n", 0) <= counted
        inner = db.get_session(session.session_id, "agent")
        for run in inner.runs if inner is not None else []:
            assert run.status in (S.completed, S.cancelled, S.error)
            balanced(run.messages or [])
    if db.get_session("s0", "agent") is not None:
        messages = next_request_of("s0", db)
        check_messages(messages)
    db.close()


def balanced(messages: list[Any]) -> None:
    """Each call has exactly one result."""
    calls = sorted(call.id for message in messages for call in message.tool_calls or [])
    assert calls == sorted(message.tool_call_id for message in messages if message.role == "tool")


def next_request_of(session_id: str, db: BaseDb) -> list[Any]:
    model = ScriptedModel(["fine"])
    agent = Agent(model, name="Worker", add_history_to_context=True, num_history_runs=50)
    assert Workflow("W", steps=[agent], db=db).run("and now?", session_id=session_id).status is S.completed
    return model.requests[0].messages
