"""The data of the page: the live tree of a run, abandoned calls, and the time and run of each event."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import Any

import pytest
from server_harness import cancel, following, served, start, story, until
from test_server_security import ANN, BOB, TOKENS, shown

from desist import Agent, Step, Workflow, tool
from desist.testing import Call, Gate, ScriptedModel, ToolCalls


def life(client: Any, run_id: str) -> dict[str, Any]:
    return dict(client.get(f"/v1/runs/{run_id}/live").json())


def test_the_live_tree_of_a_run() -> None:
    """The whole tree is returned for any of its ids: children with parents, open steps, what each waits for."""
    gate = Gate()
    agent = Agent(name="Bot", model=ScriptedModel([["one ", gate, "two"]], id="m"))
    with served(Workflow("Flow", steps=[Step("ask", agent=agent)])) as client:
        run_id = start(client, "flow")
        gate.wait_reached()
        found = life(client, run_id)
        outer, inner = found["runs"]
        assert (outer["run_id"], outer["kind"], outer["steps"]) == (run_id, "workflow", ["ask"])
        assert inner["parent_run_id"] == run_id and inner["name"] == "Bot"
        assert inner["blocked_in"][0].startswith("model m: next token for")
        assert outer["grace_left"] is None and found["status"] == "RUNNING" and found["left"] == []
        assert life(client, inner["run_id"])["run_id"] == run_id
        gate.open()
        until(client, run_id, lambda run: run["status"] == "COMPLETED")
        assert life(client, run_id)["runs"] == []


def test_a_cancel_in_progress() -> None:
    """During cleanup: the rest of the grace, and the record so far; both are gone when the run has ended."""
    entered, gate = threading.Event(), Gate()

    async def tidy(_: Any) -> None:
        entered.set()
        await gate.wait()

    async def wait(_: Any) -> None:
        await Gate().wait()

    with served(Workflow("Tidy", steps=[Step("work", executor=wait, on_cancel=tidy)], grace=3600.0)) as client:
        run_id = start(client, "tidy")
        until(client, run_id, lambda run: run["steps"] == ["work"])
        cancel(client, run_id, reason="enough")
        assert entered.wait(30)
        found = life(client, run_id)
        assert found["status"] == "CANCELLING" and 3000 < found["runs"][0]["grace_left"] <= 3600
        assert found["cancel"]["reason"] == "enough" and found["cancel"]["cleanup"][0]["status"] == "running"
        gate.open()
        until(client, run_id, lambda run: run["status"] == "CANCELLED")
        assert life(client, run_id)["runs"] == []


@pytest.mark.parametrize("stacks", [False, True])
def test_abandoned_calls_that_still_run(stacks: bool) -> None:
    """After the end: the call, its function, since when; nothing once it has ended. File and line with `stacks`."""
    lock, inside = threading.Lock(), threading.Event()
    lock.acquire()

    @tool
    def nap() -> str:
        """Sleep."""
        inside.set()
        lock.acquire()
        return "slept"

    agent = Agent(name="Bot", model=ScriptedModel([ToolCalls(Call("nap", {}))]), tools=[nap])
    with served(agents=[agent], stacks=stacks) as client:
        run_id = client.post("/v1/runs", json={"agent": "bot", "input": "go"}).json()["run_id"]
        assert inside.wait(30)
        assert ("nap (" in str(life(client, run_id)["runs"])) is stacks
        cancel(client, run_id, 30.0)
        (left,) = life(client, run_id)["left"]
        line = "lock.acquire()" if stacks else ""
        assert (left["name"], left["kind"], left["line"], left["alive"]) == ("nap", "thread", line, True)
        assert left["since"] > 0 and (left["where"].startswith("nap (") if stacks else left["where"] == "nap")
        lock.release()
        while life(client, run_id)["left"]:
            pass


def test_no_client_is_shown_files_or_source() -> None:
    """Receipts, runs, events and all protocols name functions of the server's program, but no files and lines."""
    locks, inside = [threading.Lock(), threading.Lock()], threading.Semaphore(0)
    free = [*locks]
    for each in locks:
        each.acquire()

    @tool
    def nap() -> str:
        """Sleep."""
        lock = free.pop()
        inside.release()
        lock.acquire()
        return "slept"

    agents = [Agent(name=name, model=ScriptedModel([ToolCalls(Call("nap", {}))]), tools=[nap]) for name in "AB"]
    with served(agents=agents, a2a=True) as client, concurrent.futures.ThreadPoolExecutor() as pool:
        run_id = client.post("/v1/runs", json={"agent": "a", "input": "go"}).json()["run_id"]
        assert inside.acquire(timeout=30)
        told = [client.get(f"/v1/runs/{run_id}/live").text, cancel(client, run_id, 30.0).text]
        for path in ("", "/events", "/live"):
            told.append(client.get(f"/v1/runs/{run_id}{path}").text)
        told += [client.get("/v1/runs").text, client.get(f"/agents/a/runs/{run_id}").text]
        told.append(cancel(client, run_id).text)
        head = {"A2A-Version": "1.0"}
        asked = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": run_id}}
        told.append(client.post("/a2a/agents/a", json=asked, headers=head).text)
        ask = {"threadId": "t", "runId": "r", "state": {}, "tools": [], "context": [], "forwardedProps": {}}
        ask["messages"] = [{"id": "m", "role": "user", "content": "go"}]
        agui = pool.submit(client.post, "/v1/agui/agents/b", json=ask)
        assert inside.acquire(timeout=30)
        (live,) = [run for run in client.get("/v1/runs").json()["runs"] if run["status"] == "RUNNING"]
        cancel(client, live["run_id"], 30.0)
        told.append(agui.result(30).text)
        for each in locks:
            each.release()
    for text in told:
        assert "nap" in text, text
        assert __file__ not in text and "lock.acquire" not in text, text


def test_another_owners_run_is_missing() -> None:
    """The live state of another owner's run is 404."""
    gate = Gate()
    with served(story(gate), tokens=TOKENS) as client:
        run_id = client.post("/v1/runs", json={"workflow": "story"}, headers=shown(ANN)).json()["run_id"]
        gate.wait_reached()
        assert client.get(f"/v1/runs/{run_id}/live", headers=shown(ANN)).status_code == 200
        unknown = client.get("/v1/runs/unknown/live", headers=shown(BOB))
        assert unknown.status_code == 404
        assert client.get(f"/v1/runs/{run_id}/live", headers=shown(BOB)).content == unknown.content
        gate.open()


def test_events_have_their_time_and_run() -> None:
    """Numbered events have increasing times, and the id of the inner run that emitted them."""
    agent = Agent(name="Bot", model=ScriptedModel(["one two three"]))
    with served(Workflow("Flow", steps=[Step("ask", agent=agent)])) as client:
        run_id = start(client, "flow")
        with following(client, run_id) as events:
            told = [frame.data for frame in events]
        times = [event["event_at"] for event in told]
        assert times == sorted(times) and times[0] > 1e9
        assert {event["run_id"] for event in told} == {run_id}
        own = {event["event"]: event.get("event_run_id") for event in told}
        assert own["WorkflowStarted"] is None and own["StepStarted"] is None
        assert own["RunStarted"] == own["RunContent"] == own["RunCompleted"] not in (None, run_id)


def test_the_summary_of_a_run() -> None:
    """The list has names, the beginning of the input, open steps of live runs, and durations."""
    gate = Gate()
    with served(story(gate)) as client:
        run_id = start(client, input="x" * 500)
        gate.wait_reached()
        (run,) = client.get("/v1/runs").json()["runs"]
        assert run["name"] == "Story" and run["steps"] == ["tell"] and run["duration"] is None
        assert run["asked"].startswith("xxx") and run["asked"].endswith("…") and len(run["asked"]) == 200
        cancel(client, run_id, 30.0)
        (run,) = client.get("/v1/runs").json()["runs"]
        assert run["steps"] == [] and run["duration"] >= 0


def test_bulk_cancel_by_ids() -> None:
    """Only the named runs are cancelled; unknown or ended ids are ignored."""
    gate = Gate()
    with served(story(gate)) as client:
        one, two = start(client), start(client)
        ask = {"run_ids": [one, "none"]}
        assert client.post("/v1/runs/cancel", json={**ask, "dry_run": True}).json()["run_ids"] == [one]
        assert client.post("/v1/runs/cancel", json=ask).json()["count"] == 1
        until(client, one, lambda run: run["status"] == "CANCELLED")
        assert client.post("/v1/runs/cancel", json={"run_ids": []}).json()["count"] == 0
        gate.open()
        until(client, two, lambda run: run["status"] == "COMPLETED")
