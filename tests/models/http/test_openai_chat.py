"""What OpenAIChat yields for what a server sends, and what it sends itself."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pydantic
import pytest
from http_raw_server import DONE, STOP, Connection, answering, event, serving, text
from http_requests import ask, asking, chat, collect, said

from desist.exceptions import ConfigurationError, ModelResponseError, UnsupportedError
from desist.models.base import ModelRequest
from desist.models.message import Message, ToolCall
from desist.models.openai import OpenAIChat
from desist.models.response import ModelResponse, Usage

USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 5,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}


def test_text_arrives_in_pieces_and_usage_last() -> None:
    """Each event is a piece; the last one holds the usage with cached and reasoning tokens."""
    usage = b"data: " + json.dumps({"choices": [], "usage": USAGE}).encode() + b"\n\n"
    script = answering(event({"role": "assistant", "content": ""}), text("Hel"), text("lo"), STOP, usage, DONE)
    with serving(script) as server:
        pieces = ask(chat(server.url))
    assert [p.content for p in pieces] == ["Hel", "lo", None]
    assert pieces[2].finish_reason == "stop"
    assert pieces[2].usage == Usage(
        input_tokens=7, output_tokens=5, total_tokens=12, reasoning_tokens=2, cache_read_tokens=3
    )


def test_usage_in_every_chunk_is_reported_once() -> None:
    """A server that counts along gives one usage, the last."""
    counts = [{"usage": {"prompt_tokens": 1, "completion_tokens": n, "total_tokens": 1 + n}} for n in (1, 2)]
    with serving(answering(event({"content": "a"}, **counts[0]), event(reason="stop", **counts[1]), DONE)) as server:
        pieces = ask(chat(server.url))
    assert [p.usage.output_tokens for p in pieces if p.usage] == [2]


def test_tool_calls_come_whole() -> None:
    """The last piece holds the calls, put together; before it, empty pieces tell that something arrives."""
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "add", "arguments": ""}}
    second = {"index": 1, "id": "c2", "type": "function", "function": {"name": "sub", "arguments": "{}"}}
    more = {"index": 0, "function": {"arguments": '{"a":1}'}}
    calls = [event({"tool_calls": [call]}) for call in (first, second, more)]
    with serving(answering(*calls, event(reason="tool_calls"), DONE)) as server:
        pieces = ask(chat(server.url))
    deltas = pieces[-1].tool_calls or ()
    assert [(d.index, d.id, d.name, d.arguments) for d in deltas] == [
        (0, "c1", "add", '{"a":1}'),
        (1, "c2", "sub", "{}"),
    ]
    assert pieces[:-1] == [ModelResponse()] * 3


def test_tool_calls_without_an_index_are_told_apart_by_id() -> None:
    """Where a server sends no index, a new id begins a new call, and arguments may be an object."""
    calls = [{"id": i, "function": {"name": n, "arguments": {"x": 1}}} for i, n in (("a", "f"), ("b", "g"))]
    with serving(answering(*(event({"tool_calls": [c]}) for c in calls), STOP, DONE)) as server:
        deltas = [d for p in ask(chat(server.url)) for d in p.tool_calls or ()]
    assert [(d.index, d.name, json.loads(d.arguments)) for d in deltas] == [(0, "f", {"x": 1}), (1, "g", {"x": 1})]


def test_reasoning_and_refusal() -> None:
    """Reasoning has its own field under either name; a refusal is text, and the finish reason tells of it."""
    script = answering(
        event({"reasoning_content": "hm"}), event({"reasoning": "so"}), event({"refusal": "No."}), STOP, DONE
    )
    with serving(script) as server:
        pieces = ask(chat(server.url))
    assert [p.reasoning_content for p in pieces][:2] == ["hm", "so"]
    assert said(pieces) == "No."
    assert pieces[-1].finish_reason == "refusal"


def test_a_whole_answer_to_a_stream_request() -> None:
    """A server that doesn't stream answers in JSON: it is one answer, calls and usage included."""
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    message = {"role": "assistant", "content": "hi", "tool_calls": [call, call | {"id": "c2"}]}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE}

    def script(connection: Connection) -> None:
        while connection.request():
            connection.whole(200, json.dumps(body).encode())

    with serving(script) as server:
        pieces = ask(chat(server.url))
    assert said(pieces) == "hi"
    assert [(d.index, d.id) for d in pieces[-1].tool_calls or ()] == [(0, "c1"), (1, "c2")]
    assert pieces[-1].usage is not None and pieces[-1].usage.total_tokens == 12


@pytest.mark.parametrize(
    ("kind", "body", "shown"),
    [
        ("text/html", b"<html>who are you?</html>", "who are you?"),
        ("application/json", b"{", "isn't a chat completion"),
        ("application/json", b"{}", "no choices"),
        ("text/event-stream", b"data: {nonsense\n\n", "nonsense"),
        ("text/event-stream", b"data: [1,2]\n\n", "ended before"),
        ("text/event-stream", b'data: {"choices": 5}\n\n', "ended before"),
        ("text/event-stream", b"data: {1}\n\n" + text("x") + STOP, "isn't a chat completion"),
        ("text/event-stream", b"", "ended before"),
        ("text/event-stream", text("cut"), "ended before"),
        ("text/event-stream", text("cut") + b'data: {"cho', "ended before"),
    ],
)
def test_what_is_no_answer_is_an_error_that_shows_it(kind: str, body: bytes, shown: str) -> None:
    """Wrong type, broken JSON, wrong shape, early end: ModelResponseError that shows what was received."""

    def script(connection: Connection) -> None:
        connection.request()
        connection.whole(200, body, kind=kind)

    with serving(script) as server, pytest.raises(ModelResponseError, match=shown) as caught:
        ask(chat(server.url))
    assert len(str(caught.value)) < 1000


def test_a_stream_under_a_wrong_type_is_still_read() -> None:
    """Some servers say text/plain: what looks like events is read as events."""

    def script(connection: Connection) -> None:
        connection.request()
        connection.whole(200, text("hi") + STOP + b"data: [DONE]", kind="text/plain")

    with serving(script) as server:
        assert said(ask(chat(server.url))) == "hi"


def test_a_connection_cut_in_the_body_is_an_error_after_the_text() -> None:
    """The text before the cut is delivered; then a retryable ModelError."""

    def script(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        connection.chunk(text("half"))

    async def main(url: str) -> tuple[list[str | None], Exception]:
        seen = []
        try:
            async for piece in chat(url).stream(asking()):
                seen.append(piece.content)
        except Exception as error:
            return seen, error
        raise AssertionError("no error")

    with serving(script) as server:
        seen, error = asyncio.run(main(server.url))
    assert seen == ["half"]
    assert getattr(error, "retryable", None) is True


def test_the_connection_is_used_again() -> None:
    """An answer read to its end leaves its connection to the next request."""

    async def main(url: str) -> None:
        for _ in range(5):
            await collect(chat(url))

    with serving(answering(text("x"), STOP, DONE)) as server:
        asyncio.run(main(server.url))
        assert server.connections == 1


def test_parameters_are_sent() -> None:
    """Every parameter that isn't None is in the request, headers and query included; None isn't."""
    seen = []

    def script(connection: Connection) -> None:
        seen.append(connection.request())
        connection.stream(text("x"), STOP, DONE)

    sent = {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 10,
        "max_completion_tokens": 11,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "seed": 7,
        "stop": ["END"],
        "user": "u",
        "logit_bias": {"5": 1},
        "reasoning_effort": "low",
        "verbosity": "low",
        "service_tier": "flex",
        "store": False,
        "metadata": {"a": "b"},
    }
    with serving(script) as server:
        model = chat(
            server.url,
            **sent,
            organization="org",
            default_headers={"x-one": "1", "x-two": "1"},
            extra_headers={"x-two": "2"},
            default_query={"q": "1"},
            extra_query={"r": "2"},
            request_params={"seed": 8, "n": 1},
            extra_body={"n": 2},
        )
        tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
        ask(model, asking(tools=tools, tool_choice="auto", response_format={"type": "json_object"}))
    request = seen[0]
    assert request is not None
    assert request["body"] == sent | {
        "model": "test-model",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "seed": 8,
        "n": 2,
        "tools": tools,
        "tool_choice": "auto",
        "response_format": {"type": "json_object"},
    }
    headers = request["headers"]
    assert (headers["x-one"], headers["x-two"], headers["openai-organization"]) == ("1", "2", "org")
    assert headers["authorization"] == "Bearer sk-test-0123456789"
    assert request["line"] == "POST /v1/chat/completions?q=1&r=2 HTTP/1.1"


def test_messages_on_the_wire() -> None:
    """Calls, results, partial answers and mapped roles are sent so that the request is valid."""
    bodies = []

    def script(connection: Connection) -> None:
        bodies.append((connection.request() or {})["body"])
        connection.stream(text("x"), STOP, DONE)

    messages = [
        Message("system", "be brief"),
        Message("user", "lone \ud800 surrogate"),
        Message("assistant", None, tool_calls=[ToolCall(id="c1", name="f", arguments='{"a":')], cancelled=True),
        Message("tool", "cancelled", tool_call_id="c1"),
        Message("assistant", "half an ans", cancelled=True),
        Message("user", None),
        Message("assistant", "", cancelled=True),
        Message("user", "go on", name="bo"),
    ]
    with serving(script) as server:
        ask(chat(server.url, role_map={"system": "developer"}), ModelRequest(messages=messages))
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert bodies[0]["messages"] == [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": "lone \ufffd surrogate"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "cancelled", "tool_call_id": "c1"},
        {"role": "assistant", "content": "half an ans"},
        {"role": "user", "content": ""},
        {"role": "user", "content": "go on", "name": "bo"},
    ]


def test_a_prompt_of_ten_megabytes() -> None:
    """A very long prompt arrives whole."""
    sizes = []

    def script(connection: Connection) -> None:
        sizes.append(len((connection.request() or {})["body"]["messages"][0]["content"]))
        connection.stream(text("x"), STOP, DONE)

    with serving(script) as server:
        ask(chat(server.url), asking("é" * 10_000_000))
    assert sizes == [10_000_000]


def test_a_pydantic_class_is_sent_as_a_strict_schema() -> None:
    """Objects are closed, every property is required, nothing stands beside a reference."""
    bodies = []

    class Inner(pydantic.BaseModel):
        n: int | None = None

    class Answer(pydantic.BaseModel):
        inner: Inner = pydantic.Field(description="it")
        all: list[Inner]

    def script(connection: Connection) -> None:
        bodies.append((connection.request() or {})["body"])
        connection.stream(text("x"), STOP, DONE)

    with serving(script) as server:
        ask(chat(server.url), asking(response_format=Answer))
    form = bodies[0]["response_format"]["json_schema"]
    assert (form["name"], form["strict"]) == ("Answer", True)
    schema = form["schema"]
    assert schema["required"] == ["inner", "all"] and schema["additionalProperties"] is False
    assert schema["properties"]["inner"] == {"anyOf": [{"$ref": "#/$defs/Inner"}], "description": "it"}
    assert schema["$defs"]["Inner"]["required"] == ["n"]
    assert "default" not in schema["$defs"]["Inner"]["properties"]["n"]


def test_free_keys_and_plain_schemas_are_not_strict() -> None:
    """A type with free keys, and a bare JSON schema, are sent as plain schemas."""
    bodies = []

    class Free(pydantic.BaseModel):
        counts: dict[str, int]

    def script(connection: Connection) -> None:
        while request := connection.request():
            bodies.append(request["body"]["response_format"])
            connection.stream(text("x"), STOP, DONE)

    with serving(script) as server:
        ask(chat(server.url), asking(response_format=Free))
        ask(chat(server.url), asking(response_format={"title": "a b", "type": "object"}))
    assert [(b["json_schema"]["name"], b["json_schema"]["strict"]) for b in bodies] == [("Free", False), ("a_b", False)]


def test_a_missing_key_is_refused_before_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key: an error that names the variable and the parameter, from check() and from stream()."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for call in (OpenAIChat().check, lambda: ask(OpenAIChat())):
        with pytest.raises(ConfigurationError, match=r"set OPENAI_API_KEY, or pass OpenAIChat\(api_key="):
            call()


def test_key_and_address_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENAI_API_KEY and OPENAI_BASE_URL are used where nothing is passed."""
    with serving(answering(text("env"), STOP, DONE)) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert said(ask(OpenAIChat("m"))) == "env"


@pytest.mark.parametrize(
    ("given", "words"),
    [({"api_key": "sk-\u2013abc"}, "at index 3"), ({"api_key": "k", "base_url": "localhost:1"}, "base_url must")],
)
def test_what_cant_be_used_is_refused(given: dict[str, str], words: str) -> None:
    """A key that no header can hold and an address without a scheme are refused, and the key isn't shown."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        OpenAIChat(**given).check()
    assert given["api_key"] == "k" or given["api_key"] not in str(caught.value)


def test_an_unknown_parameter_is_refused_by_name() -> None:
    """A parameter without an effect isn't taken."""
    with pytest.raises(UnsupportedError, match="OpenAIChat has no parameter 'modalities'"):
        OpenAIChat("m", modalities=["audio"])  # type: ignore[call-arg]


def test_the_key_is_not_in_the_repr() -> None:
    """Printing a model doesn't print its key."""
    assert "sk-secret" not in repr(OpenAIChat(api_key="sk-secret", extra_headers={"a": "sk-secret"}))


def test_importing_it_imports_no_sdk() -> None:
    """`import desist.models.openai` loads neither the SDK nor an HTTP client."""
    code = "import sys, desist.models.openai; print({'openai', 'httpx2', 'httpcore2', 'anyio'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
