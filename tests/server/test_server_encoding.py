"""`/agents` and `/workflows`: the requests and responses of clients of the followed API."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel
from server_harness import frames, served, story, texts, until

from desist import Agent, Step, StepInput, Workflow
from desist.testing import Gate, ScriptedModel


def only_run(client: Any) -> dict[str, Any]:
    """Return the only run, as soon as there is one."""
    while not (runs := client.get("/v1/runs").json()["runs"]):
        pass
    return dict(runs[0])


def test_frames_of_a_stream() -> None:
    """Started with form fields, the response has frames with name and JSON; inline frames have no index."""
    gate = Gate()
    gate.open()
    with served(story(gate)) as client:
        answer = client.post("/workflows/story/runs", data={"message": "go", "stream": "true"})
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        assert answer.text.startswith("event: WorkflowStarted\ndata: {")
        seen = list(frames(iter(answer.text.split("\n"))))
        assert texts(seen) == "b0 b1 a0 a1 " and seen[-1].event == "WorkflowCompleted"
        assert all(frame.id is None and "event_index" not in frame.data for frame in seen)


def test_json_and_background() -> None:
    """Without a stream the response is the output after the end; in the background id and PENDING, 202."""
    gate = Gate()
    agent = Agent(name="Bot", model=ScriptedModel("hello there", repeat=True))
    with served(story(gate), agents=[agent]) as client:
        answer = client.post("/agents/bot/runs", data={"message": "hi", "stream": "false"})
        assert answer.status_code == 200
        assert (answer.json()["status"], answer.json()["content"]) == ("COMPLETED", "hello there")
        files = {"message": (None, "hi"), "stream": (None, "false")}
        assert client.post("/agents/bot/runs", files=files).json()["content"] == "hello there"
        answer = client.post("/workflows/story/runs", data={"message": "go", "stream": "false", "background": "true"})
        assert answer.status_code == 202 and set(answer.json()) == {"run_id", "session_id", "status"}
        assert answer.json()["status"] == "PENDING"
        gate.open()
        until(client, answer.json()["run_id"], lambda run: run["status"] == "COMPLETED")


def test_resumed_by_index() -> None:
    """A background stream has `event_index` and `run_id` in its frames, and is resumed after an index."""
    gate = Gate()
    with served(story(gate)) as client:
        data = {"message": "go", "background": "true"}
        with client.stream("POST", "/workflows/story/runs", data=data) as response:
            events = frames(response.iter_lines())
            seen = [next(events) for _ in range(3)]
        run_id = seen[0].data["run_id"]
        assert [frame.data["event_index"] for frame in seen] == [0, 1, 2]
        gate.open()
        answer = client.post(f"/workflows/story/runs/{run_id}/resume", data={"last_event_index": "2"})
        rest = list(frames(iter(answer.text.split("\n"))))
        assert texts(seen + rest) == "b0 b1 a0 a1 "
        assert [frame.data["event_index"] for frame in rest] == list(range(3, 3 + len(rest)))


def test_a_lost_client_cancels_an_inline_run() -> None:
    """Inline, streamed or waited for: a client that disconnects cancels its run. In the background it continues."""
    gate = Gate()
    with served(story(gate)) as client:
        with client.stream("POST", "/workflows/story/runs", data={"message": "go"}) as response:
            run_id = next(frames(response.iter_lines())).data["run_id"]
        run = until(client, run_id, lambda run: run["status"] == "CANCELLED")
        assert run["cancel"]["source"] == "client_disconnected"


def test_a_lost_client_that_waited_for_json() -> None:
    """A client that waits for the output and disconnects cancels its run, too."""
    gate = Gate()

    async def ask_and_leave(url: str) -> None:
        import httpx2

        async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=30) as own:
            task = asyncio.ensure_future(own.post("/workflows/story/runs", data={"message": "go", "stream": "false"}))
            await asyncio.to_thread(gate.wait_reached)
            task.cancel()
            await asyncio.wait({task})

    with served(story(gate)) as client:
        asyncio.run(ask_and_leave(str(client.base_url)))
        run_id = only_run(client)["run_id"]
        run = until(client, run_id, lambda run: run["status"] == "CANCELLED")
        assert run["cancel"]["source"] == "client_disconnected"


def test_cancel_is_always_an_empty_object() -> None:
    """Live, twice, ended or unknown: 200 and `{}`; an unknown component is 404."""
    gate = Gate()
    with served(story(gate)) as client:
        answer = client.post("/workflows/story/runs", data={"message": "go", "stream": "false", "background": "true"})
        path = f"/workflows/story/runs/{answer.json()['run_id']}"
        for where in (path, path, "/workflows/story/runs/unknown"):
            answer = client.post(f"{where}/cancel")
            assert (answer.status_code, answer.json()) == (200, {})
        until(client, path.rpartition("/")[2], lambda run: run["status"] == "CANCELLED")
        assert client.post("/workflows/nope/runs/x/cancel").status_code == 404
        assert client.get(path).json()["status"] == "CANCELLED"
        assert [run["status"] for run in client.get("/workflows/story/runs").json()] == ["CANCELLED"]
        gate.open()
        answer = client.post(f"{path}/continue", data={"stream": "false"})
        assert answer.json()["status"] == "COMPLETED"


def test_components() -> None:
    """The components are listed and described with their input schema; unsupported fields are named."""

    class Order(BaseModel):
        item: str

    def take(given: StepInput) -> str:
        return f"took {given.input.item}"

    shop = Workflow("Shop", description="Sells", steps=[Step("take", executor=take)], input_schema=Order)
    with served(shop) as client:
        described = client.get("/workflows").json()
        assert described[0]["id"] == "shop" and described[0]["input_schema"]["required"] == ["item"]
        assert client.get("/workflows/shop").json() == described[0] and client.get("/agents").json() == []
        ask = {"message": '{"item": "tea"}', "stream": "false"}
        assert client.post("/workflows/shop/runs", data=ask).json()["content"] == "took tea"
        assert client.post("/workflows/shop/runs", data={"message": "tea"}).status_code == 422
        answer = client.post("/workflows/shop/runs", data={**ask, "version": "2"})
        assert answer.status_code == 422 and "version" in answer.json()["detail"]
