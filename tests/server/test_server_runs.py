"""`/v1/runs`: start, read, list, continue; what is refused, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from server_harness import cancel, following, served, start, status, story, texts, until

from desist import Agent, Step, StepInput, Workflow
from desist.db import InMemoryDb, SqliteDb
from desist.exceptions import ConfigurationError
from desist.server import Limits, create_app
from desist.testing import Gate, ScriptedModel


def test_started_followed_and_read() -> None:
    """A run is started at once, followed to its end, and its record has the result."""
    gate = Gate()
    with served(story(gate)) as client:
        answer = client.post("/v1/runs", json={"workflow": "story", "input": "go", "session_id": "s"})
        assert answer.status_code == 202
        run_id = answer.json()["run_id"]
        assert answer.headers["location"] == f"/v1/runs/{run_id}"
        gate.wait_reached()
        assert status(client, run_id) == "RUNNING"
        gate.open()
        with following(client, run_id) as events:
            seen = list(events)
        assert texts(seen) == "b0 b1 a0 a1 " and seen[-1].event == "WorkflowCompleted"
        assert [frame.id for frame in seen] == list(range(len(seen)))
        run = client.get(f"/v1/runs/{run_id}").json()
        assert (run["status"], run["session_id"], run["output"]["content"]) == ("COMPLETED", "s", "b0 b1 a0 a1 ")


def test_an_agent_streams_at_once() -> None:
    """With `stream` the response has the run's events, from the first to the last."""
    agent = Agent(name="Bot", model=ScriptedModel("hello there"))
    with served(agents=[agent]) as client:
        answer = client.post("/v1/runs", json={"agent": "bot", "input": "hi", "stream": True})
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        assert answer.text.startswith("retry: 1000\n\n")
        assert "event: RunStarted" in answer.text and "event: RunCompleted" in answer.text


def test_pages_and_filters(tmp_path: Path) -> None:
    """Newest first; `next` leads to the older ones, each once; filters by status and session."""
    gate = Gate()
    quick = Workflow("Quick", steps=[Step("one", executor=lambda given: "done")])
    with served(quick, story(gate), db=SqliteDb(str(tmp_path / "runs.db"))) as client:
        ids = [start(client, "quick", session_id=f"s{number % 2}") for number in range(5)]
        for run_id in ids:
            until(client, run_id, lambda run: run["status"] == "COMPLETED")
        running = start(client)
        gate.wait_reached()
        listed: list[str] = []
        cursor: dict[str, Any] = {}
        while True:
            page = client.get("/v1/runs", params={"limit": 2, "workflow": "quick", **cursor}).json()
            listed += [run["run_id"] for run in page["runs"]]
            if page["next"] is None:
                break
            cursor = {"cursor": page["next"]}
        assert listed == ids[::-1]
        assert [r["run_id"] for r in client.get("/v1/runs", params={"status": "RUNNING"}).json()["runs"]] == [running]
        page = client.get("/v1/runs", params={"session_id": "s1"}).json()
        assert [run["run_id"] for run in page["runs"]] == [ids[3], ids[1]]
        assert client.get("/v1/runs", params={"workflow": "nope"}).json()["runs"] == []
        assert client.get("/v1/runs", params={"older_than": 3600}).json()["runs"] == []
        assert client.get("/v1/runs", params={"cursor": "rubbish"}).status_code == 422
        cancel(client, running, 5.0)


def test_continued(tmp_path: Path) -> None:
    """A cancelled run continues as a new one with the finished steps. A completed one can't: 409."""
    gate, calls = Gate(), []

    def first(_: StepInput) -> str:
        calls.append("first")
        return "one"

    async def second(_: StepInput) -> str:
        await gate.wait()
        return "two"

    workflow = Workflow("Two", steps=[Step("first", executor=first), Step("second", executor=second)])
    with served(workflow, db=SqliteDb(str(tmp_path / "runs.db"))) as client:
        run_id = start(client, "two")
        gate.wait_reached()
        assert client.post(f"/v1/runs/{run_id}/continue", json={}).status_code == 409
        cancel(client, run_id, 5.0)
        gate.open()
        answer = client.post(f"/v1/runs/{run_id}/continue", json={})
        assert answer.status_code == 202 and answer.json()["continued_from"] == run_id
        done = until(client, answer.json()["run_id"], lambda run: run["status"] == "COMPLETED")
        assert done["output"]["content"] == "two" and calls == ["first"]
        assert client.post(f"/v1/runs/{done['run_id']}/continue", json={}).status_code == 409


def test_a_limit_of_the_run() -> None:
    """`timeout` cancels the run with source `deadline`, which is recorded."""
    gate = Gate()
    with served(story(gate)) as client:
        run_id = start(client, timeout=0.05)
        run = until(client, run_id, lambda run: run["status"] == "CANCELLED")
        assert run["cancel"]["source"] == "deadline"


@pytest.mark.parametrize(
    ("ask", "code", "words"),
    [
        ({"workflow": "story", "input": "x", "speed": 1}, 422, "body.speed"),
        ({"input": "x"}, 422, "exactly one of workflow and agent"),
        ({"workflow": "story", "agent": "bot"}, 422, "exactly one of workflow and agent"),
        ({"workflow": "nope"}, 404, "no workflow"),
        ({"workflow": "story", "timeout": -1}, 422, "body.timeout"),
        ({"workflow": "story", "budget": {}}, 422, "a budget needs at least one of"),
        ({"agent": "bot"}, 422, "needs an input"),
    ],
)
def test_refused_by_name(ask: dict[str, Any], code: int, words: str) -> None:
    """An invalid request is a problem that names the field; no run is started."""
    with served(story(Gate()), agents=[Agent(name="Bot", model=ScriptedModel("hi"))]) as client:
        answer = client.post("/v1/runs", json=ask)
        assert answer.status_code == code and answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == code and words in problem["detail"]
        assert client.get("/v1/runs").json()["runs"] == []


def test_too_many_runs() -> None:
    """A run beyond the limit is refused with 429; when one has ended, the next is accepted."""
    gate = Gate()
    with served(story(gate), limits=Limits(runs=1)) as client:
        run_id = start(client)
        answer = client.post("/v1/runs", json={"workflow": "story", "input": "go"})
        assert answer.status_code == 429 and "retry-after" in answer.headers
        cancel(client, run_id, 5.0)
        until(client, run_id, lambda run: run["status"] == "CANCELLED")
        again = start(client)
        cancel(client, again, 5.0)


def test_the_programs_object_stays_as_it_is() -> None:
    """`db=` of the server applies to the server's runs: the program's workflow is not changed."""
    workflow = story(Gate())
    create_app(workflows=[workflow], db=InMemoryDb())
    assert workflow.db is None


def test_what_cant_be_served() -> None:
    """Nothing, two of one id, or another type: an error that names it."""
    with pytest.raises(ConfigurationError, match="nothing to serve"):
        create_app()
    with pytest.raises(ConfigurationError, match="two workflows have the id 'story'"):
        create_app(workflows=[story(Gate()), story(Gate())])
    with pytest.raises(ConfigurationError, match="takes Workflow objects"):
        create_app(workflows=["story"])  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match="use an origin such as"):
        create_app(workflows=[story(Gate())], cors_origins=["*"])
