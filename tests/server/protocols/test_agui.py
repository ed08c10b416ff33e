"""AG-UI: runs in that protocol, checked with its own types, its own verifier and its own client."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest
from ag_ui.core import Event
from agui_reference_client import Judge
from pydantic import TypeAdapter
from server_harness import HANG, cancel, served, start, status, story, until

from desist import Agent, Parallel, Step, StepInput, Steps, Workflow
from desist.exceptions import DesistError
from desist.models.openai import OpenAIChat
from desist.run.agent import ReasoningContentDeltaEvent, RunContentEvent, RunStartedEvent
from desist.run.options.context import RunContext
from desist.server import Limits, Token
from desist.server.protocols.agui.encoder import AGUIEncoder
from desist.testing import Call, Gate, LoopbackProvider, Reply, ScriptedModel, ToolCalls

EVENT: TypeAdapter[Any] = TypeAdapter(Event)
Told = dict[str, Any]


def ask(text: str = "go", **more: Any) -> dict[str, Any]:
    """Return the request of a client."""
    message = {"id": "m1", "role": "user", "content": text}
    return {"threadId": f"t-{uuid.uuid4()}", "runId": f"r-{uuid.uuid4()}", "messages": [message], **more}


def events_of(lines: Iterator[str]) -> Iterator[Told]:
    """Read events, each checked with the protocol's types."""
    for line in lines:
        if line.startswith("data: "):
            event = json.loads(line.removeprefix("data: "))
            EVENT.validate_python(event)
            yield event


@contextlib.contextmanager
def telling(client: httpx2.Client, path: str, asked: Told | None = None, **more: Any) -> Iterator[Iterator[Told]]:
    """Start a run and read it."""
    with client.stream("POST", f"/v1/agui/{path}", json=asked or ask(), **more) as response:
        assert response.status_code == 200, response.read()
        yield events_of(response.iter_lines())


@contextlib.contextmanager
def reading(client: httpx2.Client, run_id: str) -> Iterator[Iterator[Told]]:
    """Read a run that was started by another request."""
    with client.stream("GET", f"/v1/runs/{run_id}/events", params={"format": "agui"}) as response:
        assert response.status_code == 200, response.read()
        yield events_of(response.iter_lines())


def types(events: list[Told]) -> list[str]:
    return [event["type"] for event in events]


def ended(run: dict[str, Any]) -> bool:
    return run["status"] in ("CANCELLED", "COMPLETED", "ERROR")


def helper(*script: Any, **more: Any) -> Agent:
    return Agent(id="helper", name="Helper", model=ScriptedModel(list(script)), **more)


def test_an_agent_with_a_tool(judge: Judge) -> None:
    """Text, a call with arguments and result, more text: a client makes the same conversation of it."""

    def add(a: int, b: int, run_context: RunContext) -> int:
        assert run_context.session_id is not None  # filled in, and not told
        return a + b

    agent = helper(["Let me ", "see. ", Call("add", {"a": 1, "b": 2})], "It is 3.", tools=[add])
    with served(agents=[agent]) as client, telling(client, "agents/helper", asked := ask("1+2?")) as stream:
        events = list(stream)
    messages = judge.verify(events)
    assert [message["role"] for message in messages] == ["assistant", "assistant", "tool", "assistant"]
    assert [message.get("content") for message in messages] == ["Let me see. ", None, "3", "It is 3."]
    assert json.loads(messages[1]["toolCalls"][0]["function"]["arguments"]) == {"a": 1, "b": 2}
    assert (events[0]["runId"], events[0]["threadId"]) == (asked["runId"], asked["threadId"])
    assert events[-1]["outcome"] == {"type": "success"} and events[-1]["result"] == "It is 3."
    (used,) = events[-1]["usage"]
    assert used["model"] == "scripted" and used["totalTokens"] == used["inputTokens"] + used["outputTokens"] > 0


def test_cancelled_in_mid_text(judge: Judge, db: Any) -> None:
    """All open items end, then RUN_FINISHED with outcome `cancelled`, last, with the cancel record."""
    gate = Gate()
    with served(story(gate), db=db) as client, telling(client, "workflows/story", asked := ask()) as stream:
        seen = [next(stream) for _ in range(5)]
        receipt = cancel(client, asked["runId"], 5.0, reason="enough", by="ann").json()
        seen += list(stream)
    assert types(seen) == [
        "RUN_STARTED",
        "STEP_STARTED",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "STEP_FINISHED",
        "RUN_FINISHED",
    ]
    assert seen[-1]["outcome"] == {"type": "cancelled"} and "result" not in seen[-1]
    told = seen[-1]["metadata"]["desist"]
    assert (told["content"], told["reason"], told["by"]) == ("b0 b1 ", "enough", "ann")
    assert told["settled_at"] == receipt["settled_at"] and receipt["status"] == "CANCELLED"
    assert judge.verify(seen)[0]["content"] == "b0 b1 "


def test_cancelled_in_mid_tool(judge: Judge, db: Any) -> None:
    """Two calls, one done, one running: each has a result, and that of the cancelled one says so."""
    gate = Gate()

    def quick() -> str:
        return "done"

    async def slow() -> str:
        await gate.wait()
        return "never"

    agent = helper(ToolCalls(Call("quick"), Call("slow")), "never", tools=[quick, slow])
    with served(agents=[agent], db=db) as client, telling(client, "agents/helper", asked := ask()) as stream:
        seen = []
        while "TOOL_CALL_RESULT" not in types(seen):
            seen.append(next(stream))
        gate.wait_reached()
        assert cancel(client, asked["runId"], 5.0).json()["outcome"] == "accepted"
        seen += list(stream)
    results = {message["content"] for message in judge.verify(seen) if message["role"] == "tool"}
    assert len(results) == 2 and "done" in results and "never" not in results
    assert seen[-1]["outcome"] == {"type": "cancelled"} and agent.model.completed == 1  # type: ignore[union-attr]


def test_cancelled_before_its_first_event(judge: Judge) -> None:
    """A run that was cancelled before its start emits RUN_STARTED and its end, and nothing else, also later."""
    began = Gate()

    async def work(_: StepInput) -> str:
        await began.wait()
        return "done"

    with served(Workflow("Quick", steps=[Step("work", executor=work)])) as client:
        for _ in range(10):
            run_id = start(client, "quick")
            cancel(client, run_id, 5.0)
            with reading(client, run_id) as stream:
                events = list(stream)
            judge.verify(events)
            assert events[-1]["outcome"] == {"type": "cancelled"}
            assert types(events)[0] == "RUN_STARTED" and not {"TEXT_MESSAGE_CONTENT"} & {*types(events)}


def test_twice_and_after_the_end(judge: Judge, db: Any) -> None:
    """A second cancel has the same record; a cancel after the end is 409; each stream has one end."""
    gate = Gate()
    with served(story(gate), db=db) as client:
        with telling(client, "workflows/story", first := ask()) as stream:
            next(stream)
            answers = [cancel(client, first["runId"], 5.0, reason=reason) for reason in ("one", "two")]
            events = list(stream)
        assert [answer.status_code for answer in answers] == [202, 200]
        assert events[-1]["metadata"]["desist"]["reason"] == "one" == answers[1].json()["reason"]
        gate.open()
        with telling(client, "workflows/story", second := ask()) as stream:
            events = list(stream)
        judge.verify(events)
        assert cancel(client, second["runId"]).status_code == 409
        assert types(events).count("RUN_FINISHED") == 1 and events[-1]["outcome"] == {"type": "success"}


def test_a_failure(judge: Judge) -> None:
    """RUN_ERROR with message and code is last, after all open items; the call without a result gets one."""

    async def breaks(_: StepInput) -> AsyncIterator[str]:
        yield "so far "
        raise ValueError("it broke")

    inner = Steps("inner", steps=[Step("breaks", executor=breaks, max_retries=0, on_error="fail")])
    with served(Workflow("Breaks", steps=[inner])) as client, telling(client, "workflows/breaks") as stream:
        events = list(stream)
    assert types(events)[-4:] == ["TEXT_MESSAGE_END", "STEP_FINISHED", "STEP_FINISHED", "RUN_ERROR"]
    assert "it broke" in events[-1]["message"] and events[-1]["code"] == "StepError"
    judge.verify(events)


def test_parallel_branches_that_share_names(judge: Judge) -> None:
    """Each message is its own; open steps with the same name and calls with the same id are distinguished."""
    gates = [Gate(), Gate()]

    def clock() -> str:
        return "12:00"

    def branch(number: int) -> Steps:
        # Each says a piece, waits until both have, calls a tool whose id the other uses too, and goes on.
        script = [[f"{number} ", gates[number], Call("clock", id="call_1")], f"end {number}"]
        agent = Agent(id="same", name="Same", model=ScriptedModel(script), tools=[clock])
        return Steps(f"branch {number}", steps=[Step("write", agent=agent)])

    flow = Workflow("Both", steps=[Parallel(branch(0), branch(1), name="both")])
    with served(flow) as client, telling(client, "workflows/both") as stream:
        seen: list[Told] = []
        while types(seen).count("TEXT_MESSAGE_CONTENT") < 2:
            seen.append(next(stream))
        for gate in gates:
            gate.open()
        seen += list(stream)
    messages = judge.verify(seen)
    names = [event["stepName"] for event in seen if event["type"] == "STEP_STARTED"]
    assert sorted(names) == ["both", "branch 0", "branch 1", "write", "write (2)"]
    texts = [message["content"] for message in messages if message["role"] == "assistant" and message.get("content")]
    assert sorted(texts) == ["0 ", "1 ", "end 0", "end 1"]
    ids = [event["toolCallId"] for event in seen if event["type"] == "TOOL_CALL_START"]
    assert len(set(ids)) == 2


def test_a_parallel_run_cancelled(judge: Judge, db: Any) -> None:
    """Cancelled while both branches emit text: both messages and all steps end before the run."""
    gate = Gate()

    async def tell(_: StepInput) -> AsyncIterator[str]:
        yield "piece "
        await gate.wait()

    flow = Workflow("Both", steps=[Parallel(*(Step(name, executor=tell) for name in "ab"), name="both")])
    with served(flow, db=db) as client, telling(client, "workflows/both", asked := ask()) as stream:
        seen: list[Told] = []
        while types(seen).count("TEXT_MESSAGE_CONTENT") < 2:
            seen.append(next(stream))
        cancel(client, asked["runId"], 5.0)
        seen += list(stream)
    assert [message["content"] for message in judge.verify(seen)] == ["piece ", "piece "]
    assert seen[-1]["outcome"] == {"type": "cancelled"}


def test_the_client_of_the_protocol_leaves(judge: Judge) -> None:
    """`abortRun()` of AG-UI's client cancels the run at once, and the provider's connection is closed."""
    with LoopbackProvider(Reply(tokens=500, stall_after=3)) as provider:
        model = OpenAIChat(id="m", base_url=provider.base_url, api_key="any")
        agent = Agent(id="helper", name="Helper", model=model)
        with served(agents=[agent]) as client:
            url = f"{str(client.base_url).rstrip('/')}/v1/agui/agents/helper"
            heard = judge.ask(run=url, abort="TEXT_MESSAGE_CONTENT", runId="mine")
            run = until(client, "mine", ended)
            assert (run["status"], run["cancel"]["source"]) == ("CANCELLED", "client_disconnected")
            assert provider.exchanges[0].wait_closed(HANG)
        assert "TEXT_MESSAGE_CONTENT" in types(heard["heard"])


def test_the_client_of_the_protocol_sees_a_cancel(judge: Judge) -> None:
    """For its client a cancelled run is no error: the text so far, the outcome."""
    gate = Gate()
    with served(story(gate)) as client:

        def stop() -> None:
            gate.wait_reached(timeout=HANG)
            cancel(client, "theirs")

        stopper = threading.Thread(target=stop)
        stopper.start()
        url = f"{str(client.base_url).rstrip('/')}/v1/agui/workflows/story"
        heard = judge.ask(run=url, runId="theirs")
        stopper.join(HANG)
        assert heard["failed"] is None and heard["heard"][-1]["outcome"] == {"type": "cancelled"}


def test_a_client_that_leaves_before_the_first_event() -> None:
    """A client that disconnects right after its request cancels its run, however far it is."""
    gate = Gate()
    with served(story(gate)) as client:
        for number in range(10):
            asked = json.dumps(ask(runId=f"r{number}")).encode()
            head = "POST /v1/agui/workflows/story HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            with socket.create_connection(("127.0.0.1", client.base_url.port)) as connection:
                connection.sendall(f"{head}Content-Length: {len(asked)}\r\n\r\n".encode() + asked)
        limit = time.monotonic() + HANG
        ends: set[tuple[str, str]] = set()
        while time.monotonic() < limit:
            runs = client.get("/v1/runs").json()["runs"]
            if len(runs) == 10 and all(map(ended, runs)):
                ends = {(run["status"], run["cancel"]["source"]) for run in runs}
                break
        assert ends == {("CANCELLED", "client_disconnected")}


def test_a_run_may_survive_its_client() -> None:
    """With `on_disconnect=continue` the run goes on, and all of it can be read again in this format."""
    gate = Gate()
    with served(story(gate)) as client:
        with telling(client, "workflows/story", asked := ask(), params={"on_disconnect": "continue"}) as stream:
            next(stream)
        until(client, asked["runId"], lambda run: run["followers"] == 0)
        gate.open()
        with reading(client, asked["runId"]) as stream:
            events = list(stream)
        deltas = [event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT"]
        assert "".join(deltas) == "b0 b1 a0 a1 " and events[-1]["outcome"] == {"type": "success"}
        resumed = client.get(f"/v1/runs/{asked['runId']}/events", params={"format": "agui", "after": 3})
        assert resumed.status_code == 422


def test_owners_and_ids() -> None:
    """A run id in use is refused, with 409 only for callers that may see the run.

    Another owner's thread is 404; a scope is needed.
    """
    gate = Gate()
    gate.open()
    secrets = [Token.new_secret() for _ in range(3)]
    tokens = [
        Token(secret=secrets[0], name="ann", owner="ann"),
        Token(secret=secrets[1], name="bob", owner="bob"),
        Token(secret=secrets[2], name="reader", scopes=frozenset({"read"})),
    ]
    ann, bob, reader = ({"Authorization": f"Bearer {secret}"} for secret in secrets)
    with served(story(gate), tokens=tokens) as client:
        with telling(client, "workflows/story", asked := ask(), headers=ann) as stream:
            assert list(stream)[-1]["type"] == "RUN_FINISHED"

        def tried(headers: dict[str, str], **more: Any) -> int:
            return client.post("/v1/agui/workflows/story", json=ask(**more), headers=headers).status_code

        assert tried(bob, runId=asked["runId"]) == 404  # not 409: that would tell that there is one
        assert tried(bob, threadId=asked["threadId"]) == 404
        assert tried(reader) == 403 and tried({}) == 401
        path = f"/v1/runs/{asked['runId']}/events?format=agui"
        assert client.get(path, headers=bob).status_code == 404
        assert client.get(path, headers=ann).status_code == 200


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"tools": [{"name": "x", "description": "", "parameters": {}}]}, "tools"),
        ({"resume": [{"interruptId": "i", "status": "resolved"}]}, "resume"),
        ({"forwardedProps": {"a": 1}}, "forwardedProps"),
        ({"messages": [{"id": "1", "role": "assistant", "content": "x"}]}, "last message"),
        ({"messages": [{"id": "1", "role": "user", "content": [{"type": "image", "source": {}}]}]}, "last message"),
        ({"runId": "a b"}, "runId"),
        ({"messages": []}, "messages"),
    ],
)
def test_unsupported_fields_are_refused(more: dict[str, Any], word: str) -> None:
    """Unsupported fields are not ignored: 422 names them, and no run starts."""
    gate = Gate()
    with served(story(gate)) as client:
        answer = client.post("/v1/agui/workflows/story", json=ask(**more))
        assert answer.status_code == 422 and word in answer.json()["detail"]
        assert client.get("/v1/runs").json()["runs"] == []


def test_limits() -> None:
    """Streams count towards the server's limits."""
    gate = Gate()
    with served(story(gate), limits=Limits(streams=1)) as client, telling(client, "workflows/story", asked := ask()):
        assert client.post("/v1/agui/workflows/story", json=ask()).status_code == 429
        cancel(client, asked["runId"], 5.0)
        assert status(client, asked["runId"]) == "CANCELLED"


def test_reasoning_and_a_stream_that_breaks(judge: Judge) -> None:
    """Reasoning ends when text begins; a reader that is too slow gets RUN_ERROR, after the ends of all open items."""
    tell = AGUIEncoder("r", "t")
    common: dict[str, Any] = {"agent_id": "a", "agent_name": "A", "run_id": "r"}
    parts = [
        tell(RunStartedEvent(**common)),
        tell(ReasoningContentDeltaEvent(**common, reasoning_content="hm ")),
        tell(ReasoningContentDeltaEvent(**common, reasoning_content="so")),
        tell(RunContentEvent(**common, content="text")),
        tell.error_frame(DesistError("too slow")),
        tell(RunContentEvent(**common, content="nothing after the end")),
    ]
    events = list(events_of(iter(b"".join(parts).decode().splitlines())))
    assert types(events)[1:] == [
        "REASONING_START",
        "REASONING_MESSAGE_START",
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_END",
        "REASONING_END",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_ERROR",
    ]
    assert [message["role"] for message in judge.verify(events)] == ["reasoning", "assistant"]
