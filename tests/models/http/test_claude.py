"""What Claude yields for what a server sends, and what it sends itself."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from http_dialects import KEY, MESSAGES, typed
from http_raw_server import Connection, answering, serving
from http_requests import ask, asking, said
from provider_requests import check_messages_request

from desist.exceptions import ConfigurationError, MissingExtraError, ModelError, ModelResponseError, UnsupportedError
from desist.models.anthropic import Claude
from desist.models.base import ModelRequest
from desist.models.message import Message, ToolCall
from desist.models.response import ModelResponse, Usage
from desist.testing import Call, LoopbackProvider, Reply

THOUGHT = {"type": "thinking", "thinking": "hm so", "signature": "signed"}
HIDDEN = {"type": "redacted_thinking", "data": "secret"}
ENABLED = {"type": "enabled", "budget_tokens": 1024}


def begun(**usage: int) -> bytes:
    message = {"id": "m", "type": "message", "role": "assistant", "content": [], "usage": usage}
    return typed("message_start", message=message)


def block(index: int, **fields: Any) -> bytes:
    return typed("content_block_start", index=index, content_block=fields)


def delta(index: int, **fields: Any) -> bytes:
    return typed("content_block_delta", index=index, delta=fields)


def ended(reason: str = "end_turn", **usage: int) -> bytes:
    return typed("message_delta", delta={"stop_reason": reason}, usage=usage) + typed("message_stop")


def answer(*events: bytes) -> list[ModelResponse]:
    with serving(answering(*events)) as server:
        return ask(MESSAGES.at(server.url))


def request_for(request: ModelRequest, **fields: Any) -> dict[str, Any]:
    """Return the whole HTTP request that is sent for a request."""
    seen: list[Any] = []

    def script(connection: Connection) -> None:
        seen.append(connection.request())
        connection.stream(MESSAGES.text("x"), ended())

    with serving(script) as server:
        ask(MESSAGES.at(server.url, **fields), request)
    return dict(seen[0])


def sent_by(request: ModelRequest, **fields: Any) -> dict[str, Any]:
    """Return the JSON that is sent for a request; it is valid."""
    body = dict(request_for(request, **fields)["body"])
    check_messages_request(body)
    return body


def test_text_arrives_in_pieces_and_usage_last() -> None:
    """Each delta is a piece; counts of the beginning and the end are one usage, and input is all that was read."""
    pieces = answer(
        begun(input_tokens=7, output_tokens=1, cache_read_input_tokens=3, cache_creation_input_tokens=2),
        typed("ping"),
        block(0, type="text", text=""),
        delta(0, type="text_delta", text="Hel"),
        delta(0, type="text_delta", text="lo"),
        delta(0, type="something_new", anything=[1]),
        typed("content_block_stop", index=0),
        ended(output_tokens=5),
    )
    assert [p.content for p in pieces] == ["Hel", "lo", None]
    assert pieces[2].finish_reason == "stop"
    assert pieces[2].usage == Usage(
        input_tokens=12, output_tokens=5, total_tokens=17, cache_read_tokens=3, cache_write_tokens=2
    )


def test_calls_come_whole() -> None:
    """A block begins a call, its input comes in pieces of JSON; or whole, where a server doesn't stream it."""
    pieces = answer(
        begun(),
        block(1, type="tool_use", id="toolu_1", name="add", input={}),
        delta(1, type="input_json_delta", partial_json=""),
        delta(1, type="input_json_delta", partial_json='{"a"'),
        delta(1, type="input_json_delta", partial_json=": 1}"),
        block(2, type="tool_use", id="toolu_2", name="sub", input={"b": 2}),
        ended("tool_use"),
    )
    deltas = [d for p in pieces for d in p.tool_calls or ()]
    assert [(d.index, d.id, d.name, d.arguments) for d in deltas] == [
        (0, "toolu_1", "add", '{"a": 1}'),
        (1, "toolu_2", "sub", '{"b": 2}'),
    ]
    assert pieces[-1].finish_reason == "tool_calls"


def test_thinking_is_shown_and_kept() -> None:
    """Thinking is reasoning; with its signature, and what is redacted, it is kept for the next request."""
    pieces = answer(
        begun(),
        block(0, type="thinking", thinking="", signature=""),
        delta(0, type="thinking_delta", thinking="hm "),
        delta(0, type="thinking_delta", thinking="so"),
        delta(0, type="signature_delta", signature="signed"),
        block(1, **HIDDEN),
        block(2, type="text", text="yes"),
        ended(),
    )
    assert "".join(p.reasoning_content or "" for p in pieces) == "hm so"
    assert said(pieces) == "yes"
    assert pieces[-1].provider_data == {"anthropic": [THOUGHT, HIDDEN]}


@pytest.mark.parametrize(
    ("told", "reason"),
    [("max_tokens", "length"), ("stop_sequence", "stop"), ("refusal", "refusal"), ("pause_turn", "pause_turn")],
)
def test_finish_reasons(told: str, reason: str) -> None:
    """The usual reasons have their usual names, others their own."""
    assert [p.finish_reason for p in answer(begun(), ended(told)) if p.finish_reason] == [reason]


@pytest.mark.parametrize(
    ("kind", "retryable"), [("overloaded_error", True), ("api_error", True), ("rate_limit_error", True), ("x", False)]
)
def test_an_error_in_mid_stream(kind: str, retryable: bool) -> None:
    """An error event ends the answer with a ModelError that says whether to try again."""
    with pytest.raises(ModelError, match="too much") as caught:
        answer(begun(), MESSAGES.text("some"), typed("error", error={"type": kind, "message": "too much"}))
    assert caught.value.retryable is retryable


def test_an_overloaded_provider_is_asked_again() -> None:
    """529 and 429 are tried again, after as long as the server asks."""
    with LoopbackProvider(Reply(text="at last")) as provider:
        provider.enqueue(Reply(status=529), Reply(status=429, retry_after=0.001))
        assert said(ask(MESSAGES.at(provider.base_url, max_retries=2))) == "at last"
        assert len(provider.exchanges) == 3


@pytest.mark.parametrize("body", [b"{", b"{}", b"[]", b'{"type": "error", "error": {"message": "no"}}'])
def test_what_is_no_answer_is_an_error(body: bytes) -> None:
    """JSON that isn't a message is an error."""

    def script(connection: Connection) -> None:
        connection.request()
        connection.whole(200, body)

    with serving(script) as server, pytest.raises(ModelError):
        ask(MESSAGES.at(server.url))


def test_an_early_end_is_an_error() -> None:
    """A stream without a stop reason isn't an answer."""
    with pytest.raises(ModelResponseError, match="ended before"):
        answer(begun(), MESSAGES.text("cut"))


@pytest.mark.parametrize("stream", [True, False])
def test_a_whole_answer(stream: bool) -> None:
    """Streamed or in one document: thinking, text, calls, usage, and what the next request needs."""
    calls = [Call("add", {"a": 1}), Call("sub", {})]
    reply = Reply(reasoning="I think so.", text="Let me see.", tool_calls=calls, stream=stream)
    with LoopbackProvider(reply) as provider:
        pieces = ask(MESSAGES.at(provider.base_url))
    assert said(pieces) == "Let me see."
    assert "".join(p.reasoning_content or "" for p in pieces) == "I think so."
    deltas = [d for p in pieces for d in p.tool_calls or ()]
    assert [d.name for d in deltas if d.name] == ["add", "sub"]
    assert "".join(d.arguments for d in deltas).startswith('{"a": 1}')
    assert pieces[-1].usage is not None and pieces[-1].usage.input_tokens == 1
    assert pieces[-1].provider_data is not None
    assert [p.finish_reason for p in pieces if p.finish_reason] == ["tool_calls"]


def test_parameters_are_sent() -> None:
    """Every parameter that isn't None is in the request, with key, version and headers of the program's."""
    sent = {
        "max_tokens": 2000,
        "metadata": {"user_id": "u"},
        "service_tier": "auto",
        "stop_sequences": ["END"],
        "temperature": 0.5,
        "thinking": ENABLED,
        "top_k": 5,
        "top_p": 0.9,
    }
    tools = [{"type": "function", "function": {"name": "f", "description": "F.", "parameters": {"type": "object"}}}]
    request = asking(tools=tools, tool_choice="required")
    seen = request_for(request, **sent, effort="low", extra_headers={"x-one": "1"}, extra_body={"container": "c"})
    assert seen["body"] == sent | {
        "model": "test-model",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
        "stream": True,
        "output_config": {"effort": "low"},
        "tools": [{"name": "f", "description": "F.", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any"},
        "container": "c",
    }
    headers = seen["headers"]
    assert (headers["authorization"], headers["x-one"]) == (f"Bearer {KEY}", "1")
    assert headers["anthropic-version"]
    assert seen["line"] == "POST /v1/messages HTTP/1.1"


_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
        ({"type": "auto", "disable_parallel_tool_use": True}, {"type": "auto", "disable_parallel_tool_use": True}),
    ],
)
def test_tool_choice(choice: Any, sent: dict[str, Any]) -> None:
    """OpenAI's ways to say it are translated, the API's own are sent as they are."""
    tools = [{"type": "function", "function": {"name": "f", "strict": True}}]
    body = sent_by(asking(tools=tools, tool_choice=choice))
    assert body["tool_choice"] == sent
    assert body["tools"] == [{"name": "f", "input_schema": _NO_ARGUMENTS, "strict": True}]


def test_messages_become_blocks() -> None:
    """System messages are apart, roles take turns, results come first and together, blanks are left out."""
    broken = [ToolCall(id="c1", name="f.g", arguments='{"a":'), ToolCall(id="c|2", name="f", arguments='{"a": 1}')]
    messages = [
        Message("system", "be brief"),
        Message("user", "one"),
        Message("user", "two"),
        Message("assistant", " ", tool_calls=broken, cancelled=True),
        Message("tool", "", tool_call_id="c1", tool_call_error=True),
        Message("tool", "done", tool_call_id="c|2"),
        Message("system", "be brief"),
        Message("user", "three"),
        Message("assistant", "half an ans ", cancelled=True),
    ]
    body = sent_by(ModelRequest(messages=messages))
    odd = body["messages"][1]["content"][1]["id"]
    assert odd != "c|2" and odd.startswith("c_2_")
    assert body["system"] == "be brief"
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "c1", "name": "f_g", "input": {}},
                {"type": "tool_use", "id": odd, "name": "f", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "is_error": True},
                {"type": "tool_result", "tool_use_id": odd, "content": "done"},
                {"type": "text", "text": "three"},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "half an ans"}]},
    ]
    assert body["tools"] == [{"name": name, "input_schema": {"type": "object"}} for name in ("f_g", "f")]
    assert body["tool_choice"] == {"type": "none"}


def test_thinking_goes_back_where_it_was() -> None:
    """With thinking on, blocks go back before the calls; without it they don't; and where calls came without any, the
    request is sent without thinking, because the API would refuse it."""
    call = [ToolCall(id="c1", name="f")]
    result = Message("tool", "r", tool_call_id="c1")

    def talk(data: dict[str, Any] | None) -> ModelRequest:
        said = Message("assistant", None, tool_calls=call, provider_data=data)
        return ModelRequest(messages=[Message("user", "go"), said, result])

    thought = sent_by(talk({"anthropic": [THOUGHT, HIDDEN]}), thinking=ENABLED)
    assert [b["type"] for b in thought["messages"][1]["content"]] == ["thinking", "redacted_thinking", "tool_use"]
    assert thought["thinking"] == ENABLED
    foreign = sent_by(talk({"openai.responses": [{}]}), thinking=ENABLED)
    assert "thinking" not in foreign and len(foreign["messages"][1]["content"]) == 1
    assert sent_by(talk(None), thinking={"type": "adaptive"})["thinking"] == {"type": "adaptive"}
    off = sent_by(talk({"anthropic": [THOUGHT]}), thinking={"type": "disabled"})
    assert [b["type"] for b in off["messages"][1]["content"]] == ["tool_use"]


def test_the_system_prompt_can_be_cached() -> None:
    """With cache_system_prompt it is a block that is marked."""
    request = ModelRequest(messages=[Message("system", "be brief"), Message("user", "hi")])
    [system] = sent_by(request, cache_system_prompt=True)["system"]
    assert system == {"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}


def test_what_cant_be_used_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key names the variable; an unknown parameter or choice is named."""
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match=r"set ANTHROPIC_API_KEY, or pass Claude\(api_key="):
        Claude().check()
    with pytest.raises(UnsupportedError, match="Claude has no parameter 'seed'"):
        Claude("m", seed=1)  # type: ignore[call-arg]
    tools = [{"type": "function", "function": {"name": "f"}}]
    with pytest.raises(ConfigurationError, match="tool_choice='maybe' must be one of auto"):
        ask(MESSAGES.at("http://127.0.0.1:1"), asking(tools=tools, tool_choice="maybe"))


def test_without_the_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The missing package is said before a run starts, with the command that installs it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'desist\[anthropic\]'"):
        Claude(api_key=KEY).check()


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
def test_key_and_address_from_the_environment(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL are used where nothing is passed, with or without "/v1"."""
    with LoopbackProvider(Reply(text="env")) as provider:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.base_url.removesuffix("/v1") + path)
        assert said(ask(Claude("m"))) == "env"
        assert provider.exchanges[0].headers["authorization"] == "Bearer k"


def test_importing_it_imports_no_sdk() -> None:
    """`from desist.models.anthropic import Claude` loads neither the SDK nor an HTTP client."""
    code = (
        "import sys; from desist.models.anthropic import Claude\n"
        "print({'anthropic', 'openai', 'httpx2', 'httpcore2', 'anyio'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_one_api_s_model_needs_no_other_sdk() -> None:
    """A call of Claude loads Anthropic's SDK alone."""
    code = (
        "import asyncio, sys\n"
        "from desist import Agent\nfrom desist.models.anthropic import Claude\n"
        "from desist.testing import LoopbackProvider\n"
        "with LoopbackProvider() as p: Agent(Claude('m', base_url=p.base_url, api_key='k')).run('hi')\n"
        "print({'anthropic', 'openai'} & set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "{'anthropic'}"
    )
