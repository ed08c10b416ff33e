"""What OpenAIResponses yields for what a server sends, and what it sends itself."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest
from http_dialects import RESPONSES, typed
from http_raw_server import Connection, answering, serving
from http_requests import ask, asking, said

from desist.exceptions import ConfigurationError, ModelError, ModelResponseError, UnsupportedError
from desist.models.base import ModelRequest
from desist.models.message import Message, ToolCall
from desist.models.openai import OpenAIResponses
from desist.models.response import ModelResponse, Usage
from desist.testing import Call, LoopbackProvider, Reply

USAGE = {
    "input_tokens": 7,
    "output_tokens": 5,
    "total_tokens": 12,
    "input_tokens_details": {"cached_tokens": 3},
    "output_tokens_details": {"reasoning_tokens": 2},
}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "add"}
REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "hm"}],
    "encrypted_content": "sealed",
}


def ended(status: str = "completed", **fields: Any) -> bytes:
    return typed(f"response.{status}", response={"id": "r", "status": status, "output": [], **fields})


def answer(*events: bytes) -> list[ModelResponse]:
    with serving(answering(*events)) as server:
        return ask(RESPONSES.at(server.url))


def sent_by(model_fields: dict[str, Any], request: ModelRequest) -> dict[str, Any]:
    """Return what was sent for a request."""
    seen: list[Any] = []

    def script(connection: Connection) -> None:
        seen.append(connection.request())
        connection.stream(RESPONSES.text("x"), RESPONSES.end)

    with serving(script) as server:
        ask(RESPONSES.at(server.url, **model_fields), request)
    assert seen[0]["line"] == "POST /v1/responses HTTP/1.1"
    return dict(seen[0]["body"])


def test_text_arrives_in_pieces_and_usage_last() -> None:
    """Each delta is a piece; the last one holds the usage with cached and reasoning tokens."""
    pieces = answer(
        typed("response.created", response={"id": "r", "status": "in_progress"}),
        typed("response.something_new", anything=[1]),
        RESPONSES.text("Hel"),
        RESPONSES.text("lo"),
        ended(usage=USAGE),
    )
    assert [p.content for p in pieces] == ["Hel", "lo", None]
    assert pieces[2].finish_reason == "stop"
    assert pieces[2].usage == Usage(
        input_tokens=7, output_tokens=5, total_tokens=12, reasoning_tokens=2, cache_read_tokens=3
    )


def test_calls_come_whole() -> None:
    """A call begins with its item, its arguments come in pieces; the finished item repeats nothing."""
    pieces = answer(
        typed("response.output_item.added", output_index=1, item={**CALL, "arguments": ""}),
        typed("response.function_call_arguments.delta", output_index=1, delta='{"a"'),
        typed("response.function_call_arguments.delta", output_index=1, delta=":1}"),
        typed("response.output_item.done", output_index=1, item={**CALL, "arguments": '{"a":1}'}),
        typed("response.output_item.done", output_index=2, item={**CALL, "call_id": "c2", "arguments": "{}"}),
        ended(),
    )
    deltas = [d for p in pieces for d in p.tool_calls or ()]
    assert [(d.index, d.id, d.name, d.arguments) for d in deltas] == [
        (0, "c1", "add", '{"a":1}'),
        (1, "c2", "add", "{}"),
    ]
    assert pieces[-1].finish_reason == "tool_calls"


def test_reasoning_is_shown_and_kept() -> None:
    """Summaries are reasoning, a paragraph each; the encrypted item is kept for the next request."""
    pieces = answer(
        typed("response.reasoning_summary_part.added", output_index=0, summary_index=0),
        typed("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="hm"),
        typed("response.reasoning_summary_part.added", output_index=0, summary_index=1),
        typed("response.reasoning_text.delta", output_index=0, delta="so"),
        typed("response.output_item.done", output_index=0, item=REASONING),
        typed("response.output_item.done", output_index=1, item={**REASONING, "encrypted_content": None}),
        RESPONSES.text("yes"),
        ended(),
    )
    assert "".join(p.reasoning_content or "" for p in pieces) == "hm\n\nso"
    assert pieces[-1].provider_data == {"openai.responses": [REASONING]}


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([ended("incomplete", incomplete_details={"reason": "max_output_tokens"})], "length"),
        ([ended("incomplete", incomplete_details={"reason": "content_filter"})], "content_filter"),
        ([typed("response.refusal.delta", delta="No."), ended()], "refusal"),
        ([b"data: [DONE]\n\n"], None),
    ],
)
def test_finish_reasons(events: list[bytes], reason: str | None) -> None:
    """An answer that was cut short or refused says so; a bare end mark ends it too."""
    pieces = answer(RESPONSES.text("x"), *events)
    assert [p.finish_reason for p in pieces if p.finish_reason] == ([reason] if reason else [])


@pytest.mark.parametrize(
    ("event", "retryable", "words"),
    [
        (typed("error", code="rate_limit_exceeded", message="slow down"), True, "slow down"),
        (typed("error", error={"type": "invalid_request_error", "message": "bad"}), False, "bad"),
        (
            typed("response.failed", response={"status": "failed", "error": {"code": "server_error"}}),
            True,
            "server_err",
        ),
        (typed("response.failed", response={"status": "failed"}), False, "failed"),
        (b'data: {"error": {"message": "gone", "code": "502"}}\n\n', True, "gone"),
        (typed("response.completed", response={"status": "cancelled"}), False, "cancelled"),
    ],
)
def test_an_error_in_mid_stream(event: bytes, retryable: bool, words: str) -> None:
    """An error after some text ends the answer with a ModelError, whatever its shape."""
    with pytest.raises(ModelError, match=words) as caught:
        answer(RESPONSES.text("some"), event)
    assert caught.value.retryable is retryable


@pytest.mark.parametrize("body", [b"{", b"{}", b"[]"])
def test_what_is_no_answer_is_an_error(body: bytes) -> None:
    """JSON that isn't a response is an error that shows it."""

    def script(connection: Connection) -> None:
        connection.request()
        connection.whole(200, body)

    with serving(script) as server, pytest.raises(ModelResponseError):
        ask(RESPONSES.at(server.url))


def test_an_early_end_is_an_error() -> None:
    """A stream without its last event isn't an answer."""
    with pytest.raises(ModelResponseError, match="ended before"):
        answer(RESPONSES.text("cut"))


@pytest.mark.parametrize("stream", [True, False])
def test_a_whole_answer(stream: bool) -> None:
    """Streamed or in one document: reasoning, text, calls, usage, and what the next request needs."""
    calls = [Call("add", {"a": 1}), Call("sub", {})]
    reply = Reply(reasoning="I think so.", text="Let me see.", tool_calls=calls, stream=stream)
    with LoopbackProvider(reply) as provider:
        pieces = ask(RESPONSES.at(provider.base_url))
    assert said(pieces) == "Let me see."
    assert "".join(p.reasoning_content or "" for p in pieces) == "I think so."
    deltas = [d for p in pieces for d in p.tool_calls or ()]
    assert [d.name for d in deltas if d.name] == ["add", "sub"]
    assert "".join(d.arguments for d in deltas) == '{"a": 1}{}'
    assert pieces[-1].usage is not None and pieces[-1].usage.input_tokens == 1
    assert pieces[-1].provider_data is not None
    assert [p.finish_reason for p in pieces if p.finish_reason] == ["tool_calls"]


def test_parameters_are_sent() -> None:
    """Every parameter that isn't None is in the request; nothing is stored unless asked for."""
    plain = {
        "include": ["file_search_call.results"],
        "max_output_tokens": 10,
        "max_tool_calls": 3,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "service_tier": "flex",
        "temperature": 0.5,
        "top_p": 0.9,
        "truncation": "auto",
        "user": "u",
    }
    shaped = {
        "reasoning": {"effort": "high"},
        "reasoning_effort": "low",
        "reasoning_summary": "auto",
        "verbosity": "low",
    }
    function = {"name": "f", "description": "F.", "parameters": {"type": "object"}}
    tools = [{"type": "function", "function": function}]
    choice = {"type": "function", "function": {"name": "f"}}
    request = asking(tools=tools, tool_choice=choice, response_format={"type": "json_object"})
    assert sent_by(plain | shaped | {"extra_body": {"top_logprobs": 2}}, request) == plain | {
        "model": "test-model",
        "input": [{"role": "user", "content": "hello"}],
        "stream": True,
        "store": False,
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"verbosity": "low", "format": {"type": "json_object"}},
        "tools": [{"type": "function", "strict": False, **function}],
        "tool_choice": {"type": "function", "name": "f"},
        "top_logprobs": 2,
    }
    assert "store" not in sent_by({"store": None}, asking())


def test_messages_become_items() -> None:
    """System messages at the start are instructions; calls, results and reasoning are items of their own."""
    data = {"openai.responses": [REASONING], "anthropic": [{"type": "thinking"}]}
    messages = [
        Message("system", "be brief"),
        Message("developer", "be kind"),
        Message("user", "lone \ud800 surrogate"),
        Message("assistant", "Let me see.", tool_calls=[ToolCall(id="c1", name="f")], provider_data=data),
        Message("tool", "one", tool_call_id="c1"),
        Message("assistant", "half an ans", cancelled=True),
        Message("system", "be quick"),
        Message("user", None),
        Message("assistant", "", cancelled=True),
    ]
    body = sent_by({}, ModelRequest(messages=messages))
    assert body["instructions"] == "be brief\n\nbe kind"
    assert body["input"] == [
        {"role": "user", "content": "lone \ufffd surrogate"},
        REASONING,
        {"role": "assistant", "content": "Let me see."},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "one"},
        {"role": "assistant", "content": "half an ans"},
        {"role": "system", "content": "be quick"},
        {"role": "user", "content": "(no text)"},
    ]


def test_a_pydantic_class_is_sent_as_a_strict_schema() -> None:
    """Under text.format, closed, with every property required."""

    class Answer(pydantic.BaseModel):
        n: int | None = None

    form = sent_by({}, asking(response_format=Answer))["text"]["format"]
    assert (form["type"], form["name"], form["strict"]) == ("json_schema", "Answer", True)
    assert form["schema"]["required"] == ["n"] and form["schema"]["additionalProperties"] is False


def test_what_cant_be_used_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key names the variable; an unknown parameter is named; a choice that names nothing is refused."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match=r"set OPENAI_API_KEY, or pass OpenAIResponses\(api_key="):
        OpenAIResponses().check()
    with pytest.raises(UnsupportedError, match="OpenAIResponses has no parameter 'stop'"):
        OpenAIResponses("m", stop="x")  # type: ignore[call-arg]
    tools = [{"type": "function", "function": {"name": "f"}}]
    with pytest.raises(ConfigurationError, match="names no function"):
        ask(RESPONSES.at("http://127.0.0.1:1/v1"), asking(tools=tools, tool_choice={"function": 3}))


def test_half_a_surrogate_pair_gets_a_second_reading() -> None:
    """What the fast decoder refuses is read leniently."""
    event = b'data: {"type": "response.output_text.delta", "delta": "\\ud83d", "output_index": 0.0}\n\n'
    assert said(answer(event, ended())) == "\ufffd"
