"""The loopback provider's Responses API and Messages API have the same options and counts as chat completions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from desist.testing import Call, LoopbackProvider, Reply


@pytest.fixture(params=[False, True], ids=["thread", "process"])
def provider(request: pytest.FixtureRequest) -> Iterator[LoopbackProvider]:
    with LoopbackProvider(Reply(tokens=["a ", "b"]), process=request.param) as made:
        yield made


@pytest.fixture
def client() -> Iterator[httpx2.Client]:
    with httpx2.Client(timeout=20) as made:
        yield made


MESSAGES = {"model": "m", "stream": True, "max_tokens": 9, "messages": [{"role": "user", "content": "two words"}]}
RESPONSES = {"model": "m", "stream": True, "input": "two words"}


def typed_events(response: httpx2.Response) -> list[dict[str, Any]]:
    """Return the events of a stream whose event names equal the types in their data."""
    found = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]
    names = [line[7:] for line in response.text.splitlines() if line.startswith("event: ")]
    assert names == [event["type"] for event in found]
    return found


def test_the_responses_api(provider: LoopbackProvider, client: httpx2.Client) -> None:
    """Items are added, streamed and done; the last event contains the whole answer, like plain JSON."""
    reply = Reply(reasoning="hm", text="a b", tool_calls=[Call("f", {"x": 1})])
    provider.enqueue(reply, reply)
    events = typed_events(client.post(provider.base_url + "/responses", json=RESPONSES))
    assert [event["sequence_number"] for event in events] == [*range(len(events))]
    kinds = [event["type"].removeprefix("response.") for event in events]
    opened, closed = "output_item.added", "output_item.done"
    arguments = ["function_call_arguments.delta"] * 1
    assert kinds == [
        "created",
        *(opened, "reasoning_summary_text.delta", closed),
        *(opened, "output_text.delta", "output_text.delta", closed),
        *(opened, *arguments, closed),
        "completed",
    ]
    answer = events[-1]["response"]
    assert [item["type"] for item in answer["output"]] == ["reasoning", "message", "function_call"]
    assert answer["output"][1]["content"][0]["text"] == "a b"
    assert (answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]) == (2, 5)
    plain = client.post(provider.base_url + "/responses", json=RESPONSES | {"stream": False}).json()
    assert plain["output"] == answer["output"]
    exchange = provider.wait_request()
    exchange.wait_over()
    assert (exchange.path, exchange.tokens_sent) == ("/v1/responses", 5)


def test_the_messages_api(provider: LoopbackProvider, client: httpx2.Client) -> None:
    """Blocks are started, streamed and stopped; the stop reason and the usage are last; plain JSON is equal."""
    reply = Reply(reasoning="hm", text="a b", tool_calls=[Call("f", {"x": 1})])
    provider.enqueue(reply, reply)
    events = typed_events(client.post(provider.base_url + "/messages", json=MESSAGES))
    opened, delta, closed = "content_block_start", "content_block_delta", "content_block_stop"
    assert [event["type"] for event in events] == [
        *("message_start", "ping"),
        *(opened, delta, delta, closed),
        *(opened, delta, delta, closed),
        *(opened, delta, closed),
        *("message_delta", "message_stop"),
    ]
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    assert (events[0]["message"]["usage"]["input_tokens"], events[-2]["usage"]["output_tokens"]) == (2, 5)
    plain = client.post(provider.base_url + "/messages", json=MESSAGES | {"stream": False}).json()
    assert [block["type"] for block in plain["content"]] == ["thinking", "text", "tool_use"]
    assert plain["content"][2]["input"] == {"x": 1}
    provider.enqueue(Reply(status=529), Reply(status=429, retry_after=1))
    for status, kind in ((529, "overloaded_error"), (429, "rate_limit_error")):
        response = client.post(provider.base_url + "/messages", json=MESSAGES)
        assert (response.status_code, response.json()["error"]["type"]) == (status, kind)


@pytest.mark.parametrize(("path", "body"), [("/responses", RESPONSES), ("/messages", MESSAGES)])
def test_the_options_work_in_every_api(
    provider: LoopbackProvider, client: httpx2.Client, path: str, body: dict[str, Any]
) -> None:
    """Stalls, releases and the count after a disconnect are the same as for chat completions."""
    provider.set_default(Reply(tokens=9, stall_after=3))
    provider.enqueue(Reply(text="never", drop_before_headers=True))
    with pytest.raises(httpx2.RemoteProtocolError):
        client.post(provider.base_url + path, json=body)
    with client.stream("POST", provider.base_url + path, json=body) as response:
        assert response.status_code == 200
        exchange = provider.wait_request(2)
        exchange.wait_sent(3)
    exchange.wait_over()
    assert (exchange.tokens_sent, exchange.tokens_unsent_saved, exchange.closed_by) == (3, 6, "client")


@pytest.mark.parametrize("path", ["/chat/completions", "/responses", "/messages"])
def test_invalid_requests_are_refused(client: httpx2.Client, path: str) -> None:
    """A request that the check refuses gets a 400 with the reason, is recorded, and uses no reply."""
    with LoopbackProvider() as provider:
        provider.enqueue(Reply(text="still here"))
        response = client.post(provider.base_url + path, json={"model": "m", "messages": [], "input": []})
        assert response.status_code == 400
        exchange = provider.wait_request()
        exchange.wait_over()
        assert exchange.refused and response.json()["error"]["message"] == exchange.refused
        answer = client.post(provider.base_url + "/messages", json=MESSAGES | {"stream": False}).json()
        assert answer["content"][0]["text"] == "still here"
