"""Session state: where it comes from, who shares it, what is left of it however a run ends."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from desist import Agent, Step, Workflow
from desist.db import BaseDb, InMemoryDb
from desist.exceptions import ConfigurationError
from desist.run.events.base import RunStatus
from desist.testing import Call, Gate, ScriptedModel
from desist.workflow import StepInput

S = RunStatus


def count(given: StepInput, session_state: dict[str, Any]) -> int:
    session_state["n"] = session_state.get("n", 0) + 1
    found: int = session_state["n"]
    return found


def test_from_run_to_run(db: BaseDb) -> None:
    """A run finds what the one before it in its session left; another session begins anew."""
    workflow = Workflow("W", steps=[count], db=db, session_state={"n": 10})
    assert [workflow.run(session_id="s").content for _ in range(3)] == [11, 12, 13]
    assert workflow.run(session_id="t").content == 11
    assert workflow.get_session_state("s") == {"n": 13}
    assert workflow.session_state == {"n": 10}, "what the workflow was given stays as it is"


def test_what_goes_first(db: BaseDb) -> None:
    """What is given for the run goes before what is stored, and that before the workflow's own; key by key."""
    seen: list[dict[str, Any]] = []
    defaults = {"given": 0, "stored": 0, "default": 0}
    steps = [lambda given, session_state: seen.append(dict(session_state))]
    workflow = Workflow("W", steps=steps, db=db, session_state=defaults)
    workflow.update_session_state({"given": 1, "stored": 1}, "s")
    mine = {"given": 2}
    workflow.run(session_id="s", session_state=mine)
    assert seen == [{"given": 2, "stored": 1, "default": 0}]
    assert mine == seen[0], "a run works on the dict that it is given"


def test_overwriting(db: BaseDb) -> None:
    """A workflow that overwrites doesn't see what is stored, and replaces it."""
    workflow = Workflow("W", steps=[count], db=db, overwrite_db_session_state=True)
    workflow.update_session_state({"n": 5, "old": 1}, "s")
    assert workflow.run(session_id="s").content == 1
    assert workflow.get_session_state("s") == {"n": 1}


@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_however_it_ends(db: BaseDb, end: str) -> None:
    """What finished steps changed is kept, whatever becomes of the run."""
    gate = Gate()

    def last(given: StepInput, session_state: dict[str, Any]) -> None:
        session_state["begun"] = True
        if end == "failed":
            raise ValueError("no")
        gate.wait_blocking(30)

    workflow = Workflow("W", steps=[count, Step("last", executor=last, on_error="fail", max_retries=0)], db=db)
    reader = workflow.run(run_id="r", session_id="s", stream=True)
    if end == "cancelled":
        gate.wait_reached()
        workflow.cancel("r").wait(30)
    assert list(reader)[-1].status is (S.cancelled if end == "cancelled" else S.error)
    assert workflow.get_session_state("s") == {"n": 1, "begun": True}


def test_keys_that_were_removed(db: BaseDb) -> None:
    """A key that a run removes is gone."""
    workflow = Workflow("W", steps=[lambda given, session_state: session_state.pop("old")], db=db)
    workflow.update_session_state({"old": 1, "new": 2}, "s")
    workflow.run(session_id="s")
    assert workflow.get_session_state("s") == {"new": 2}


def test_runs_at_a_time_share_nothing(db: BaseDb) -> None:
    """Runs of one workflow in one session work on copies; what each changed is kept, nested values too."""
    barrier = threading.Barrier(2, timeout=30)

    def change(given: StepInput, session_state: dict[str, Any]) -> Any:
        barrier.wait()
        session_state["shared"].append(given.input)
        session_state[given.input] = True
        barrier.wait()
        return session_state["shared"]

    workflow = Workflow("W", steps=[change], db=db, session_state={"shared": []})
    workflow.update_session_state({"shared": ["stored"]}, "s")
    made: dict[str, Any] = {}

    def run(word: str) -> None:
        made[word] = workflow.run(word, session_id="s").content

    threads = [threading.Thread(target=run, args=(word,)) for word in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert made == {"a": ["stored", "a"], "b": ["stored", "b"]}
    state = workflow.get_session_state("s")
    assert state["a"] and state["b"]
    assert state["shared"] in made.values(), "one key has the value of one run, not a mixture"


def test_a_hundred_runs_at_a_time() -> None:
    """Without a session id and a database each of a hundred runs has a session and a state of its own."""
    workflow = Workflow("W", steps=[count], session_state={"n": 0, "deep": {"list": []}})

    async def main() -> list[Any]:
        return await asyncio.gather(*(workflow.arun() for _ in range(100)))

    outputs = asyncio.run(main())
    assert {output.content for output in outputs} == {1}
    assert len({output.session_id for output in outputs}) == 100


def test_values_that_cant_be_copied() -> None:
    """A lock in the state is shared in memory, stored by a database as text, and harms nobody."""
    lock = threading.Lock()
    for db, stored in ((None, lock), (InMemoryDb(), repr(lock))):
        workflow = Workflow("W", steps=[count], db=db, session_state={"lock": lock})
        assert workflow.run(session_id="s").content == 1
        assert workflow.get_session_state("s")["lock"] == stored


def test_tools_of_an_agent(db: BaseDb) -> None:
    """An agent's tools share the state of its session, and the model is told it if it is to be."""

    def note(text: str, session_state: dict[str, Any]) -> str:
        session_state.setdefault("notes", []).append(text)
        return "noted"

    model = ScriptedModel([Call("note", {"text": "milk"}), "ok", "yes"])
    agent = Agent(model, name="A", tools=[note], db=db, session_state={"who": "Ada"}, add_session_state_to_context=True)
    output = agent.run("milk", session_id="s")
    assert output.session_state == {"who": "Ada", "notes": ["milk"]}
    agent.run("what?", session_id="s")
    assert '"milk"' in (model.requests[-1].messages[0].content or "")
    agent.model = plain = ScriptedModel(["no"])
    agent.run("what?", session_id="s", add_session_state_to_context=False)
    assert [message.role for message in plain.requests[-1].messages] == ["user"]
    assert agent.get_session_state("s") == {"who": "Ada", "notes": ["milk"]}


def test_an_agent_in_a_workflow(db: BaseDb) -> None:
    """Inside a workflow its state is the workflow's, and is stored in the workflow's session."""

    def note(session_state: dict[str, Any]) -> str:
        session_state["noted"] = True
        return "noted"

    agent = Agent(ScriptedModel([Call("note"), "ok"]), name="A", tools=[note], session_state={"own": 1})
    workflow = Workflow("W", steps=[count, agent], db=db)
    workflow.run("go", session_id="s")
    assert workflow.get_session_state("s") == {"n": 1, "noted": True}
    assert db.get_session("s", "agent").session_state == {}


def test_changing_it_from_outside(db: BaseDb) -> None:
    """A program sets keys; a run that goes on keeps its own values for those that it changes."""
    gate = Gate()

    def wait(given: StepInput, session_state: dict[str, Any]) -> None:
        gate.wait_blocking(30)
        session_state["n"] = "the run's"

    workflow = Workflow("W", steps=[wait], db=db)
    reader = workflow.run(session_id="s", stream=True)
    gate.wait_reached()
    assert workflow.update_session_state({"n": "mine", "m": "mine"}, "s") == {"n": "mine", "m": "mine"}
    gate.open()
    list(reader)
    assert workflow.get_session_state("s") == {"n": "the run's", "m": "mine"}
    workflow.get_session_state("s")["n"] = "nobody's"
    assert workflow.get_session_state("s")["n"] == "the run's"


def test_without_any_session() -> None:
    """Before there is a session there is nothing to read, and writing says what to give."""
    workflow = Workflow("W", steps=[count])
    assert workflow.get_session() is None
    assert workflow.get_session_state() == {}
    assert workflow.get_last_run_output() is None
    with pytest.raises(ConfigurationError, match="<Workflow W> has no session yet"):
        workflow.update_session_state({"n": 1})
    workflow.run()
    assert workflow.get_session_state() == {"n": 1}, "the last run's"
