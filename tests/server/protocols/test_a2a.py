"""A2A: a run as a task, through the protocol's own client over a real socket; critical moments of CancelTask."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import httpx
import httpx2
import pytest
from a2a.client import A2ACardResolver, Client, ClientConfig, create_client
from a2a.types import a2a_pb2 as pb
from a2a.utils import errors
from server_harness import HANG, served, story, until

from desist import Agent, Step, StepInput, Workflow
from desist.exceptions import MissingExtraError
from desist.models.openai import OpenAIChat
from desist.server import Limits, Token, create_app
from desist.testing import Gate, LoopbackProvider, Reply, ScriptedModel

CANCELED, WORKING = pb.TASK_STATE_CANCELED, pb.TASK_STATE_WORKING


def message(text: str = "go", **more: Any) -> pb.SendMessageRequest:
    part = pb.Message(message_id=str(uuid.uuid4()), role=pb.ROLE_USER, parts=[pb.Part(text=text)], **more)
    return pb.SendMessageRequest(message=part)


def url(client: httpx2.Client, path: str) -> str:
    return f"{str(client.base_url).rstrip('/')}/a2a/{path}"


@contextlib.asynccontextmanager
async def talking(
    client: httpx2.Client, path: str, *, streaming: bool = True, secret: str = ""
) -> AsyncIterator[Client]:
    """The protocol's own client, which has read the agent's card."""
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    async with httpx.AsyncClient(timeout=HANG, trust_env=False, headers=headers) as http:
        config = ClientConfig(streaming=streaming, httpx_client=http)
        yield await create_client(url(client, path), config)


def played(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run the client of a test on a loop, with a timeout."""

    async def bounded() -> None:
        async with asyncio.timeout(HANG):
            await main()

    asyncio.run(bounded())


async def reached(gate: Gate) -> None:
    await asyncio.to_thread(gate.wait_reached, 1, HANG)


def texts(updates: list[pb.StreamResponse]) -> str:
    told = [update.artifact_update.artifact for update in updates if update.HasField("artifact_update")]
    return "".join(part.text for one in told if one.artifact_id != "answer" for part in one.parts)


def answer(task: pb.Task) -> str:
    return "".join(part.text for one in task.artifacts if one.artifact_id == "answer" for part in one.parts)


async def first_task(stream: AsyncIterator[pb.StreamResponse]) -> pb.Task:
    return (await anext(stream)).task


def test_the_card_and_a_whole_run() -> None:
    """The card has the address and the protocol; a run is streamed in pieces, then its answer, then COMPLETED, last."""
    gate = Gate()
    gate.open()

    async def main() -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            card = await A2ACardResolver(http, url(client, "workflows/story")).get_agent_card()
        assert card.name == "Story" and card.capabilities.streaming and not card.security_requirements
        async with talking(client, "workflows/story") as peer:
            updates = [update async for update in peer.send_message(message())]
            task = await peer.get_task(pb.GetTaskRequest(id=updates[0].task.id))
        assert texts(updates) == "b0 b1 a0 a1 " == answer(task)
        assert updates[-1].status_update.status.state == pb.TASK_STATE_COMPLETED == task.status.state

    with served(story(gate), a2a=True) as client:
        played(main)


def test_cancelled_in_mid_text(db: Any) -> None:
    """CancelTask returns CANCELED when the run has ended, with the text so far; the stream sends it last."""
    gate = Gate()

    async def main() -> None:
        async with talking(client, "workflows/story") as peer:
            stream = peer.send_message(message())
            task = await first_task(stream)
            await reached(gate)
            request = pb.CancelTaskRequest(id=task.id)
            request.metadata["reason"] = "enough"
            stopped = await peer.cancel_task(request)
            rest = [update async for update in stream]
        assert stopped.status.state == CANCELED and answer(stopped) == "b0 b1 "
        record = dict(stopped.metadata["desist"]["cancel"])  # type: ignore[arg-type]
        assert (record["source"], record["reason"]) == ("user", "enough") and record["settled_at"]
        assert rest[-1].status_update.status.state == CANCELED
        assert sum(update.status_update.status.state == CANCELED for update in rest) == 1
        assert client.get(f"/v1/runs/{task.id}").json()["status"] == "CANCELLED"

    with served(story(gate), a2a=True, db=db) as client:
        played(main)


def test_clients_of_version_0_3() -> None:
    """Version 0.3 is served at the same address: its client starts, reads and cancels a task in the same way."""
    gate = Gate()

    async def main() -> None:
        async with httpx.AsyncClient(timeout=HANG, trust_env=False) as http:
            card = await A2ACardResolver(http, url(client, "workflows/story")).get_agent_card()
            old = [one for one in card.supported_interfaces if one.protocol_version == "0.3"]
            del card.supported_interfaces[:]
            card.supported_interfaces.extend(old)
            peer = await create_client(card, ClientConfig(httpx_client=http))
            stream = peer.send_message(message())
            task = await first_task(stream)
            await reached(gate)
            stopped = await peer.cancel_task(pb.CancelTaskRequest(id=task.id))
            assert stopped.status.state == CANCELED and answer(stopped) == "b0 b1 "
            assert [update async for update in stream][-1].status_update.status.state == CANCELED
            with pytest.raises(errors.TaskNotCancelableError):
                await peer.cancel_task(pb.CancelTaskRequest(id=task.id))

    with served(story(gate), a2a=True) as client:
        played(main)


def test_the_provider_is_stopped() -> None:
    """An agent waits for a token of its model: CancelTask closes the provider's connection."""

    async def main() -> None:
        async with talking(client, "agents/helper") as peer:
            stream = peer.send_message(message())
            task = await first_task(stream)
            await anext(stream)
            assert (await peer.cancel_task(pb.CancelTaskRequest(id=task.id))).status.state == CANCELED
            assert [update async for update in stream][-1].status_update.status.state == CANCELED

    with LoopbackProvider(Reply(tokens=500, stall_after=3)) as provider:
        model = OpenAIChat(id="m", base_url=provider.base_url, api_key="any")
        with served(agents=[Agent(id="helper", name="Helper", model=model)], a2a=True) as client:
            played(main)
            assert provider.exchanges[0].wait_closed(HANG)


def test_cancelled_before_the_first_event_and_twice(db: Any) -> None:
    """Cancels race with starts and with each other: a task that was CANCELED never has another end."""

    async def main() -> None:
        async with talking(client, "workflows/quick", streaming=False) as peer:
            for _ in range(10):
                request = message()
                request.configuration.return_immediately = True
                task = await first_task(peer.send_message(request))
                wanted = pb.CancelTaskRequest(id=task.id)
                answers = await asyncio.gather(*(peer.cancel_task(wanted) for _ in range(3)), return_exceptions=True)
                last = await ended(peer, task.id)
                states = {one.status.state for one in answers if isinstance(one, pb.Task)}
                refused = [one for one in answers if not isinstance(one, pb.Task)]
                assert all(isinstance(one, errors.TaskNotCancelableError) for one in refused), refused
                assert states <= {CANCELED} and (not states or last.status.state == CANCELED)

    async def work(_: StepInput) -> str:
        return "done"

    with served(Workflow("Quick", steps=[Step("work", executor=work)]), a2a=True, db=db) as client:
        played(main)


async def ended(peer: Client, task_id: str) -> pb.Task:
    """Poll until a task has ended."""
    until_then = time.monotonic() + HANG
    while time.monotonic() < until_then:
        task = await peer.get_task(pb.GetTaskRequest(id=task_id))
        if task.status.state not in (WORKING, pb.TASK_STATE_SUBMITTED):
            return task
    raise TimeoutError(f"{task_id} doesn't end")


def test_too_late_or_unknown() -> None:
    """An ended task isn't cancelable, also a cancelled one; an unknown one is not found."""
    gate = Gate()

    async def main() -> None:
        async with talking(client, "workflows/story") as peer:
            stream = peer.send_message(message())
            task = await first_task(stream)
            wanted = pb.CancelTaskRequest(id=task.id)
            assert (await peer.cancel_task(wanted)).status.state == CANCELED
            with pytest.raises(errors.TaskNotCancelableError):
                await peer.cancel_task(wanted)
            gate.open()
            updates = [update async for update in peer.send_message(message())]
            done = updates[0].task
            with pytest.raises(errors.TaskNotCancelableError):
                await peer.cancel_task(pb.CancelTaskRequest(id=done.id))
            for ask in (peer.cancel_task(pb.CancelTaskRequest(id="x")), peer.get_task(pb.GetTaskRequest(id="x"))):
                with pytest.raises(errors.TaskNotFoundError):
                    await ask
            with pytest.raises(errors.UnsupportedOperationError):
                await anext(peer.subscribe(pb.SubscribeToTaskRequest(id=done.id)))
            assert [one async for one in stream][-1].status_update.status.state == CANCELED

    with served(story(gate), a2a=True) as client:
        played(main)


def test_a_lost_stream_can_be_subscribed_to_again(db: Any) -> None:
    """A lost stream cancels nothing; a new subscriber gets the whole text and the cancel."""
    gate = Gate()

    async def main() -> None:
        async with talking(client, "workflows/story") as peer:
            task = await first_task(peer.send_message(message()))
        await reached(gate)
        await asyncio.to_thread(until, client, task.id, lambda run: run["followers"] == 0)
        async with talking(client, "workflows/story") as peer:
            stream = peer.subscribe(pb.SubscribeToTaskRequest(id=task.id))
            assert (await anext(stream)).task.status.state == WORKING
            heard = [await anext(stream), await anext(stream)]
            assert texts(heard) == "b0 b1 "
            await peer.cancel_task(pb.CancelTaskRequest(id=task.id))
            assert [one async for one in stream][-1].status_update.status.state == CANCELED

    with served(story(gate), a2a=True, db=db) as client:
        played(main)


def test_a_lost_client_that_can_not_know_its_task() -> None:
    """A client that waits for the response and disconnects doesn't know the id: its run is cancelled."""
    gate = Gate()

    async def main() -> None:
        async with talking(client, "workflows/story", streaming=False) as peer:
            waiting = asyncio.ensure_future(anext(peer.send_message(message())))
            await reached(gate)
            waiting.cancel()
            await asyncio.wait({waiting})

    with served(story(gate), a2a=True) as client:
        played(main)
        run = client.get("/v1/runs").json()["runs"][0]
        run = until(client, run["run_id"], lambda run: run["status"] == "CANCELLED")
        assert run["cancel"]["source"] == "client_disconnected"


def test_a_failure_and_unsupported_requests() -> None:
    """FAILED has the reason, in the stream and later; pictures, push notifications and second messages are refused."""

    async def main() -> None:
        async with talking(client, "agents/broken", streaming=False) as peer:
            task = await first_task(peer.send_message(message()))
            assert task.status.state == pb.TASK_STATE_FAILED and "no luck" in task.status.message.parts[0].text
            picture = message()
            picture.message.parts.append(pb.Part(url="http://127.0.0.1/x.png"))
            with pytest.raises(errors.ContentTypeNotSupportedError):
                await anext(peer.send_message(picture))
            with pytest.raises(errors.UnsupportedOperationError):
                await anext(peer.send_message(message(task_id=task.id)))
            pushed = message()
            pushed.configuration.task_push_notification_config.url = "http://127.0.0.1/"
            with pytest.raises(errors.PushNotificationNotSupportedError):
                await anext(peer.send_message(pushed))

    broken = Agent(id="broken", model=ScriptedModel([ValueError("no luck")]))
    with served(agents=[broken], a2a=True) as client:
        played(main)


def test_owners_scopes_and_lists() -> None:
    """Another owner's task is missing; a context is a session; a list has only the caller's tasks."""
    gate = Gate()
    gate.open()
    ann, bob, reader = (Token.new_secret() for _ in range(3))
    tokens = [
        Token(secret=ann, name="ann", owner="ann"),
        Token(secret=bob, name="bob", owner="bob"),
        Token(secret=reader, name="reader", scopes=frozenset({"read"})),
    ]

    async def main() -> None:
        async with talking(client, "workflows/story", streaming=False, secret=ann) as peer:
            tasks = [await first_task(peer.send_message(message(context_id="c1"))) for _ in range(3)]
            page = await peer.list_tasks(pb.ListTasksRequest(context_id="c1", page_size=2))
            rest = await peer.list_tasks(pb.ListTasksRequest(page_size=2, page_token=page.next_page_token))
            listed = [one.id for one in (*page.tasks, *rest.tasks)]
            assert listed == [one.id for one in reversed(tasks)] and not rest.next_page_token
        async with talking(client, "workflows/story", secret=bob) as peer:
            for ask in (pb.GetTaskRequest, pb.CancelTaskRequest):
                call = peer.get_task if ask is pb.GetTaskRequest else peer.cancel_task
                with pytest.raises(errors.TaskNotFoundError):
                    await call(ask(id=tasks[0].id))
            with pytest.raises(errors.TaskNotFoundError):
                await anext(peer.send_message(message(context_id="c1")))
            assert not (await peer.list_tasks(pb.ListTasksRequest())).tasks
        async with talking(client, "workflows/story", secret=reader) as peer:
            assert (await peer.get_task(pb.GetTaskRequest(id=tasks[0].id))).id == tasks[0].id
            with pytest.raises(Exception, match="403"):
                await anext(peer.send_message(message()))
            with pytest.raises(Exception, match="403"):
                await peer.cancel_task(pb.CancelTaskRequest(id=tasks[0].id))

    with served(story(gate), tokens=tokens, a2a=True) as client:
        assert client.get("/a2a/workflows/story/.well-known/agent-card.json").status_code == 401
        played(main)


def test_limits() -> None:
    """Streams and runs count towards the server's limits."""
    gate = Gate()

    async def main() -> None:
        async with talking(client, "workflows/story") as peer:
            stream = peer.send_message(message())
            task = await first_task(stream)
            with pytest.raises(Exception, match="429"):
                await anext(peer.send_message(message()))
            await peer.cancel_task(pb.CancelTaskRequest(id=task.id))
            assert [one async for one in stream]

    with served(story(gate), limits=Limits(streams=1), a2a=True) as client:
        played(main)


@pytest.mark.loud
@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'"x"',
        b"\xff",
        b'{"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": []}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "CancelTask", "params": {"id": {"a": 1}}}',
        b'{"jsonrpc": "2.0", "id": "a\\nFORGED", "method": "x"}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": {"parts": [{"text": 5}]}}}',
    ],
)
def test_bad_input(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Invalid input is an error of the protocol, not of the server, and can't forge a log line."""
    headers = {"A2A-Version": "1.0", "Content-Type": "application/json"}
    with served(story(Gate()), a2a=True) as client:
        reply = client.post("/a2a/workflows/story", content=body, headers=headers)
        assert reply.status_code in (200, 400) and "error" in reply.json()
    assert not [record for record in caplog.records if "\n" in record.getMessage()]


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `a2a-sdk` the error names the command that installs it; without `a2a=` nothing of it is imported."""
    import sys

    for name in [name for name in sys.modules if name.startswith("desist.server.protocols.a2a")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name == "a2a" or name.startswith("a2a.")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'desist\[a2a\]'"):
        create_app(workflows=[story(Gate())], a2a=True)
    with served(story(Gate())) as client:
        assert client.get("/a2a/workflows/story/.well-known/agent-card.json").status_code == 404
