"""Sessions as programs see them: of workflows, with their history; and the same from async code."""

from __future__ import annotations

from typing import Any

import pytest

from desist import Agent, Step, Steps, Workflow
from desist.db import BaseDb
from desist.exceptions import UnsupportedError
from desist.run.events.base import RunStatus
from desist.run.outputs.history import CUT_OFF, STOPPED
from desist.session import AgentSession, WorkflowSession
from desist.testing import Gate, ScriptedModel
from desist.workflow import StepInput, StepOutput

S = RunStatus


def echo(given: StepInput) -> str:
    return f"<{given.input}>"


def test_a_session(db: BaseDb) -> None:
    """A session has its runs, its state, its name and what it used; it goes to a dict and comes back."""
    agent = Agent(ScriptedModel(["two words"], repeat=True), name="A")
    workflow = Workflow("W", steps=[echo, agent], db=db, user_id="u", metadata={"team": 1})
    first, second = workflow.run("one", session_id="s"), workflow.run("two", session_id="s")
    session = workflow.get_session("s")
    assert isinstance(session, WorkflowSession)
    assert (session.workflow_id, session.workflow_name, session.user_id) == ("w", "W", "u")
    assert session.metadata == {"team": 1}
    assert [run.run_id for run in session.runs] == [first.run_id, second.run_id]
    assert session.get_run(first.run_id).content == "two words"
    assert [type(step) for step in session.runs[0].step_results] == [StepOutput, StepOutput]
    assert workflow.set_session_name("s", session_name="mine").session_name == "mine"
    assert workflow.get_session_name("s") == "mine"
    used = workflow.get_session_metrics("s")
    assert used is not None and (used.output_tokens, used.model_calls) == (4, 2)
    assert used.duration is not None and used.duration > 0
    again = WorkflowSession.from_dict(session.to_dict())
    assert [run.run_id for run in again.runs] == [first.run_id, second.run_id]


def test_looking_back(db: BaseDb) -> None:
    """Runs are found by id, by session and user; the last one is the one that began last and has ended."""
    workflow = Workflow("W", steps=[echo], db=db, session_id="s", user_id="u")
    ids = [workflow.run(word).run_id for word in ("a", "b")]
    gate = Gate()
    other = Workflow("W", steps=[Step("wait", executor=lambda given: gate.wait_blocking(30))], db=db, session_id="s")
    reader = other.run(stream=True)
    gate.wait_reached()
    assert workflow.get_last_run_output().run_id == ids[1]
    assert workflow.get_run(ids[0]).content == "<a>"
    assert workflow.get_run_output(ids[0], user_id="v") is None
    assert workflow.get_run(ids[0], session_id="t") is None
    live = workflow.get_run(reader.run_id)
    assert live.status is S.running, "a live run is seen as it is now"
    assert [run.status for run in workflow.get_session().runs] == [S.completed, S.completed, S.running]
    assert [run.content for run in workflow.get_chat_history(last_n_runs=1)] == ["<b>"]
    gate.open()
    list(reader)


def test_deleting(db: BaseDb) -> None:
    """A session is deleted with its runs, those of its agents too; not by somebody whose session it isn't."""
    agent = Agent(ScriptedModel(["ok"], repeat=True), name="A")
    workflow = Workflow("W", steps=[agent], db=db, user_id="u")
    output = workflow.run("go", session_id="s")
    inner = output.step_executor_runs[0].run_id
    assert not workflow.delete_session("s", user_id="v")
    assert workflow.delete_session("s", user_id="u")
    assert workflow.get_session("s") is None
    assert db.get_run(output.run_id) is None and db.get_run(inner) is None
    assert not workflow.delete_session("s")


def test_saving_a_session(db: BaseDb) -> None:
    """A program may write a session as it wants it."""
    agent = Agent(ScriptedModel(["ok"]), name="A", db=db)
    agent.run("go", session_id="s")
    session = agent.get_session("s")
    assert isinstance(session, AgentSession)
    session.session_state["n"] = 1
    agent.save_session(session)
    assert agent.get_session_state("s") == {"n": 1}
    assert len(agent.get_session("s").runs) == 1


def test_runs_in_a_session_object() -> None:
    """A run put into a session object takes the place of the one with its id."""
    from desist.run.agent import RunOutput

    session = AgentSession(session_id="s")
    session.upsert_run(RunOutput(run_id="r", content="old", status=S.completed))
    session.upsert_run(RunOutput(run_id="r", content="new", status=S.completed))
    session.upsert_run(RunOutput(run_id="q", content="other", status=S.running))
    assert [run.content for run in session.runs] == ["new", "other"]
    assert [run.content for run in session.last_runs(5)] == ["new"]
    assert session.get_run("no") is None


# -- history in steps


def test_history_for_functions(db: BaseDb) -> None:
    """A function, also in a container, finds what was asked and answered in the session's runs before."""
    told: list[Any] = []
    look = Step("look", executor=lambda given: told.append(given.get_workflow_history(2)))
    workflow = Workflow("W", steps=[Steps("both", steps=[look, echo])], db=db)
    for word in ("one", "two", "three"):
        workflow.run(word, session_id="s")
    workflow.run("elsewhere", session_id="t")
    assert told == [[], [("one", "<one>")], [("one", "<one>"), ("two", "<two>")], []]


@pytest.mark.parametrize("said", [["half", "an answer"], []])
def test_stopped_runs_are_marked(db: BaseDb, said: list[str]) -> None:
    """A stopped run stands in the history with what it had said, marked as stopped."""
    gate, told = Gate(), []
    agent = Agent(ScriptedModel([[*said, gate]]), name="A")
    stopping = Workflow("W", steps=[agent], db=db)
    reader = stopping.run("go", session_id="s", run_id=f"r{len(said)}{id(gate)}", stream=True)
    gate.wait_reached()
    assert stopping.cancel(reader.run_id).wait(30)
    reader.close()
    looking = Workflow("W", steps=[lambda given: told.append(given.get_workflow_history_context())], db=db)
    looking.run("and?", session_id="s")
    answer = f"halfan answer\n{CUT_OFF}" if said else STOPPED
    assert told == [f"<workflow_history>\n[run 1]\nUser: go\nAnswer: {answer}\n</workflow_history>"]


def test_history_for_agents(db: BaseDb) -> None:
    """An agent is told the history where the workflow or its step says so; the step goes first."""
    models = [ScriptedModel([f"{name}{n}" for n in range(4)]) for name in "abc"]
    agents = [Agent(model, name=f"agent {number}") for number, model in enumerate(models)]
    steps = [
        Step("as the workflow says", agent=agents[0]),
        Step("never", agent=agents[1], add_workflow_history=False),
        Step("just one", agent=agents[2], add_workflow_history=True, num_history_runs=1),
    ]
    workflow = Workflow("W", steps=steps, db=db, add_workflow_history_to_steps=True, num_history_runs=2)
    for word in ("q0", "q1", "q2", "q3"):
        workflow.run(word, session_id="s")
    told = [model.requests[-1].messages[-1].content or "" for model in models]
    assert [text.count("User: ") for text in told] == [2, 0, 1]
    assert told[0].endswith("</workflow_history>\n\nq3")
    assert "User: q2\nAnswer: c2" in told[0]
    assert told[1] == "a3"


def test_the_whole_session_in_a_step(db: BaseDb) -> None:
    """A step may look at the session itself, as it was before this run."""
    seen: list[Any] = []

    def look(given: StepInput) -> None:
        session = given.workflow_session
        seen.append((session.session_id, [run.input for run in session.runs], dict(session.session_state)))

    workflow = Workflow("W", steps=[look], db=db, session_state={"n": 1})
    workflow.run("one", session_id="s")
    workflow.run("two", session_id="s")
    assert seen == [("s", [], {}), ("s", ["one"], {"n": 1})]


def look_there(given: StepInput) -> list[Any]:
    return given.get_workflow_history()


def test_history_in_a_process(db: BaseDb) -> None:
    """A step in a process of its own gets a copy."""
    workflow = Workflow("W", steps=[Step("look", executor=look_there, isolation="process")], db=db)
    workflow.run("one", session_id="s")
    assert workflow.run("two", session_id="s").content == [("one", "[]")]


# -- from async code


async def test_awaited(db: BaseDb, anyio_backend: str) -> None:
    """Everything can be awaited, on the caller's loop, which isn't blocked."""
    agent = Agent(ScriptedModel(["ok", "ok"]), name="A", db=db, session_id="s", session_state={"n": 1})
    output = await agent.arun("go")
    assert (await agent.aget_run_output(output.run_id)).content == "ok"
    assert (await agent.aget_last_run_output()).run_id == output.run_id
    assert await agent.aget_session_state() == {"n": 1}
    assert await agent.aupdate_session_state({"n": 2}) == {"n": 2}
    assert (await agent.aset_session_name(session_name="x")).session_name == "x"
    assert await agent.aget_session_name() == "x"
    assert len(await agent.aget_session_messages()) == 2
    assert len(await agent.aget_chat_history()) == 2
    session = await agent.aget_session()
    await agent.asave_session(session)
    used = await agent.aget_session_metrics()
    assert used.model_calls == 1 and used.duration == output.metrics.duration > 0
    assert await agent.adelete_session("s")
    workflow = Workflow("W", steps=[echo], db=db, session_id="w")
    done = await workflow.arun("go")
    assert (await workflow.aget_run(done.run_id)).content == "<go>"
    assert len(await workflow.aget_chat_history()) == 1


def test_options_of_a_run(db: BaseDb) -> None:
    """What a run of a workflow can't be told is refused by name."""
    workflow = Workflow("W", steps=[echo], db=db)
    with pytest.raises(UnsupportedError, match="add_history_to_context="):
        workflow.run("go", add_history_to_context=True)  # type: ignore[call-overload]


def test_runs_that_functions_start(db: BaseDb) -> None:
    """A run that a function starts is stored where its parent is, and isn't taken for one that did a step."""
    helper = Agent(ScriptedModel(["helped"], repeat=True), name="Helper")
    doer = Agent(ScriptedModel(["done"], repeat=True), name="Doer")
    inner = Workflow("Inner", steps=[echo])
    ids: list[Any] = []

    def ask(given: StepInput) -> str:
        made = [helper.run("help"), inner.run("in")]
        ids.extend(run.run_id for run in made)
        return "asked"

    output = Workflow("W", steps=[ask, doer], db=db).run("go", session_id="s")
    stored = db.get_run(output.run_id)
    assert [run.agent_name for run in stored.step_executor_runs] == ["Doer"]
    assert [db.get_run(run_id).content for run_id in ids] == ["helped", "<in>"]
    assert [db.store.load_run(run_id).parent_run_id for run_id in ids] == [output.run_id] * 2  # type: ignore[union-attr]
