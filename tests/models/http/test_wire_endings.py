"""How an answer ended: it stands on output, event and message, and a call that may be cut off isn't made."""

from __future__ import annotations

import json
from typing import Any

import pytest
from http_dialects import Speech, typed
from http_raw_server import Connection, serving
from wire import CHAT, DONE, JSON, KEY, MESSAGES, RESPONSES, data, delta, piece, read

from desist import Agent, RunStatus
from desist.exceptions import ModelResponseError
from desist.models.finish_reason import calls_cut_off
from desist.models.message import ToolCall
from desist.run.agent import ModelRequestCompletedEvent, RunCompletedEvent, ToolCallErrorEvent

#: What servers of chat completions say, and what it is called.
REASONS = {
    "stop": "stop",
    "STOP": "stop",
    "FinishReason.STOP": "stop",
    "end_turn": "stop",
    "eos": "stop",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "length": "length",
    "max_tokens": "length",
    "MAX_TOKENS": "length",
    "FINISH_REASON_MAX_TOKENS": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "content_filter": "content_filter",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "sensitive": "content_filter",
    "refusal": "refusal",
    "error": "error",
    "insufficient_system_resource": "error",
    "MALFORMED_FUNCTION_CALL": "error",
    "abort": "abort",
    "cancelled": "abort",
    "incomplete": "incomplete",
    "max_new_tokens": "length",
    "MaxTokens": "length",
    "token_limit_reached": "length",
    "too-long": "length",
    "ContentFilter": "content_filter",
    "content_blocked": "content_filter",
    "policy violation": "content_filter",
    "model_error": "error",
    "canceled_by_user": "abort",
    "client_disconnected": "abort",
    "EndTurn": "stop",
    "stopped": "stop",
    "stop_token": "stop",
    "toolUse": "tool_calls",
    "pause_turn": "pause_turn",
    "Something_New": "something_new",
}


@pytest.mark.parametrize("told", REASONS)
@pytest.mark.parametrize("streamed", [True, False])
def test_reasons_of_chat_completions(told: str, streamed: bool) -> None:
    """The usual reasons have one name each, whatever the server calls them; others keep theirs."""
    if streamed:
        found = read(CHAT, delta({"content": "x"}) + delta({}, told) + DONE)
    else:
        choice = {"message": {"content": "x"}, "finish_reason": told}
        found = read(CHAT, json.dumps({"choices": [choice]}).encode(), kind=JSON)
    assert (found.text, found.reason) == ("x", REASONS[told])


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (["", "null", None, "stop"], "stop"),
        ([None, None], None),
        (["length", "stop"], "length"),
        (["stop", "length"], "length"),
        (["tool_calls", "stop"], "stop"),
        ([False, 3, {}, ["stop"], "stop"], "stop"),
    ],
)
def test_several_reasons(reasons: list[Any], expected: str | None) -> None:
    """A reason that says nothing is none; one that says that the end is missing stays."""
    body = b"".join(delta({"content": "x"}, reason) for reason in reasons) + DONE
    found = read(CHAT, body)
    assert (found.text, found.reason) == ("x" * len(reasons), expected)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (delta({}, {"type": "max_tokens"}), "length"),
        (delta({}, None, finish_details={"type": "max_tokens"}), "length"),
        (delta({}, None, native_finish_reason="MAX_TOKENS"), "length"),
        (delta({}, None, stop_reason="max_tokens"), "length"),
        (delta({}, None, stop_reason="###"), None),
        (delta({}, "stop", stop_reason="length"), "stop"),
        (delta({"finish_reason": "length"}), "length"),
        (data({"choices": [{"delta": {}}], "finish_reason": "length"}), "length"),
        (data({"choices": [], "finish_reason": "length"}), "length"),
        (data({"done": True, "done_reason": "length"}), "length"),
    ],
)
def test_reasons_in_other_places(end: bytes, reason: str | None) -> None:
    """Where servers put the reason besides `finish_reason` of the choice; what isn't a reason there is ignored."""
    found = read(CHAT, delta({"content": "x"}) + end + DONE)
    assert (found.text, found.reason) == ("x", reason)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("tool_use", "tool_calls"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "refusal"),
        ("pause_turn", "pause_turn"),
        ("stop", "stop"),
        ("length", "length"),
        (None, None),
    ],
)
@pytest.mark.parametrize("how", ["delta", "event", "start", "whole"])
def test_reasons_of_the_messages_api(told: str | None, reason: str | None, how: str) -> None:
    """In the delta where it belongs, beside it, in the first event, or in a message that comes whole."""
    text = MESSAGES.text("x")
    if how == "delta":
        body = text + typed("message_delta", delta={"stop_reason": told}) + typed("message_stop")
    elif how == "event":
        body = text + typed("message_delta", delta={}, stop_reason=told) + typed("message_stop")
    elif how == "start":
        body = typed("message_start", message={"content": [], "stop_reason": told}) + text + typed("message_stop")
    else:
        body = json.dumps({"content": [{"type": "text", "text": "x"}], "stop_reason": told}).encode()
    found = read(MESSAGES, body)
    assert (found.text, found.reason) == ("x", reason)


def ended(status: str | None, *, event: str = "completed", **more: Any) -> bytes:
    return typed(f"response.{event}", response={"status": status, "output": [], **more})


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (ended("completed"), "stop"),
        (ended(None), "stop"),
        (ended("in_progress"), "stop"),
        (ended("completed", event="done"), "stop"),
        (ended("incomplete", event="incomplete", incomplete_details={"reason": "max_output_tokens"}), "length"),
        (ended("incomplete", incomplete_details={"reason": "max_tokens"}), "length"),
        (ended("incomplete", event="incomplete", incomplete_details={"reason": "content_filter"}), "content_filter"),
        (ended(None, event="incomplete"), "incomplete"),
        (ended("incomplete", incomplete_details=None), "incomplete"),
        (ended("incomplete", incomplete_details="max_output_tokens"), "incomplete"),
        (DONE, None),
    ],
)
def test_reasons_of_the_responses_api(end: bytes, reason: str | None) -> None:
    """The status and its details say how a response ended."""
    found = read(RESPONSES, RESPONSES.text("x") + end)
    assert (found.text, found.reason) == ("x", reason)


def test_an_item_that_is_incomplete() -> None:
    """A response that says that it is complete may hold a call that isn't."""
    item = {"type": "function_call", "call_id": "a", "name": "wipe", "arguments": "{}", "status": "incomplete"}
    assert read(RESPONSES, ended("completed", output=[item])).reason == "incomplete"


@pytest.mark.parametrize(
    ("speech", "body"),
    [
        (CHAT, delta({"refusal": "No."}) + delta({}, "stop") + DONE),
        (CHAT, json.dumps({"choices": [{"message": {"refusal": "No."}, "finish_reason": "stop"}]}).encode()),
        (CHAT, delta({"content": [{"type": "text", "text": "No."}]}, "refusal") + DONE),
        (RESPONSES, typed("response.refusal.delta", delta="No.") + ended("completed")),
        (RESPONSES, typed("response.refusal.done", refusal="No.") + ended("completed")),
        (
            RESPONSES,
            ended("completed", output=[{"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}]),
        ),
        (MESSAGES, MESSAGES.text("No.") + typed("message_delta", delta={"stop_reason": "refusal"})),
    ],
)
def test_refusals(speech: Speech, body: bytes) -> None:
    """What the model says when it refuses is text, and the finish reason tells of it."""
    found = read(speech, body)
    assert (found.text, found.reason) == ("No.", "refusal")


@pytest.mark.parametrize(
    ("speech", "body"),
    [
        (CHAT, delta({"content": "x"}) + DONE),
        (CHAT, data({"choices": [{"delta": {"content": "x"}}]}) + DONE),
        (RESPONSES, RESPONSES.text("x") + DONE),
        (MESSAGES, MESSAGES.text("x") + typed("message_stop")),
        (MESSAGES, MESSAGES.text("x") + DONE),
    ],
)
def test_text_and_the_end_mark_are_an_answer(speech: Speech, body: bytes) -> None:
    """A server that gives no finish reason, but says that it is done, has answered."""
    found = read(speech, body)
    assert (found.text, found.reason) == ("x", None)


# -- calls that are cut off


def wipe_stream(speech: Speech, arguments: str, reason: str | None, *, first: bool = False) -> bytes:
    """Return a stream that calls `wipe`; with `first`, after a whole call of `look`."""
    if speech is CHAT:
        calls = [delta({"tool_calls": [piece(1, "b", "wipe", "")]})]
        calls += [delta({"tool_calls": [piece(1, arguments=arguments)]})] if arguments else []
        before = delta({"tool_calls": [piece(0, "a", "look", '{"path":"/tmp"}')]}) if first else b""
        return before + b"".join(calls) + (delta({}, reason) if reason else b"") + DONE
    if speech is MESSAGES:
        blocks = [("look", "a", '{"path":"/tmp"}')] if first else []
        body = b""
        for index, (name, id, text) in enumerate([*blocks, ("wipe", "b", arguments)]):
            body += typed(
                "content_block_start", index=index, content_block={"type": "tool_use", "id": id, "name": name}
            )
            body += typed("content_block_delta", index=index, delta={"partial_json": text})
        return body + typed("message_delta", delta={"stop_reason": reason}) + typed("message_stop")
    items = [("look", "a", '{"path":"/tmp"}')] if first else []
    body = b""
    for index, (name, id, text) in enumerate([*items, ("wipe", "b", arguments)]):
        body += typed(
            "response.output_item.added",
            output_index=index,
            item={"type": "function_call", "call_id": id, "name": name},
        )
        body += typed("response.function_call_arguments.delta", output_index=index, delta=text)
    if reason is None:
        return body + DONE
    details = {"reason": "max_output_tokens" if reason == "length" else reason}
    return body + ended("incomplete", event="incomplete", incomplete_details=details)


def answers(speech: Speech) -> bytes:
    if speech is CHAT:
        return speech.text("done") + delta({}, "stop") + DONE
    return speech.text("done") + speech.almost + speech.end


class Tools:
    """Two tools, and what was done with them."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str]] = []

    def wipe(self, path: str = "/") -> str:
        """Delete all."""
        self.made.append(("wipe", path))
        return "wiped"

    def look(self, path: str = "/") -> str:
        """Look at all."""
        self.made.append(("look", path))
        return "seen"


def run(
    speech: Speech, *bodies: bytes, kind: str = "text/event-stream"
) -> tuple[Any, Tools, list[dict[str, Any]], list[Any]]:
    """Run an agent with both tools against the bodies; return output, tools, requests and events."""
    left, sent, tools = list(bodies), [], Tools()

    def script(connection: Connection) -> None:
        while (request := connection.request()) is not None:
            sent.append(request["body"])
            connection.whole(200, left.pop(0) if len(left) > 1 else left[0], kind=kind)

    with serving(script) as server:
        model = speech.model("m", base_url=server.url, api_key=KEY, max_retries=0)
        agent = Agent(model, tools=[tools.wipe, tools.look])
        events = agent.run("Hi", stream=True, stream_events=True)
        seen = list(events)
        output = agent.get_run_output(events.run_id)
    return output, tools, sent, seen


ARGUMENTS = ["", "{", '{"pa', '{"path":', '{"path":"/tm', '{"path":"/tmp"']
CUT = ["length", "content_filter", "error", "abort"]


@pytest.mark.parametrize("arguments", ARGUMENTS)
@pytest.mark.parametrize("reason", ["length", "content_filter", None])
@pytest.mark.parametrize("speech", [CHAT, RESPONSES, MESSAGES], ids=str)
def test_a_call_that_is_cut_off_is_not_made(speech: Speech, reason: str | None, arguments: str) -> None:
    """The tool isn't called, also not with its defaults; the model is told so, and may call again."""
    output, tools, sent, events = run(speech, wipe_stream(speech, arguments, reason), answers(speech))
    assert tools.made == []
    assert output.status is RunStatus.completed and output.content == "done"
    assert "may be cut off" in output.tools[0].result and output.tools[0].tool_call_error
    assert "may be cut off" in json.dumps(sent[1])
    assert [event.tool.tool_name for event in events if isinstance(event, ToolCallErrorEvent)] == ["wipe"]


@pytest.mark.parametrize("reason", CUT)
@pytest.mark.parametrize("speech", [CHAT, MESSAGES], ids=str)
def test_a_whole_call_before_the_cut_is_made(speech: Speech, reason: str) -> None:
    """Of several calls, those whose arguments were whole when the next began are made; the last one isn't."""
    output, tools, _, _ = run(speech, wipe_stream(speech, '{"path":"/"}', reason, first=True), answers(speech))
    assert tools.made == [("look", "/tmp")]
    assert [tool.tool_call_error for tool in output.tools] == [False, True]


@pytest.mark.parametrize("reason", ["stop", "tool_calls", "eos", "pause_turn", "something_new", None])
def test_a_whole_call_is_made(reason: str | None) -> None:
    """After a reason that doesn't say that something is missing, a call with whole arguments is made."""
    _, tools, _, _ = run(CHAT, wipe_stream(CHAT, '{"path":"/tmp"}', reason), answers(CHAT))
    assert tools.made == [("wipe", "/tmp")]


@pytest.mark.parametrize("reason", ["stop", "tool_calls"])
def test_a_call_without_arguments_is_made(reason: str) -> None:
    """No arguments at all is a call with the defaults, if the answer is whole."""
    _, tools, _, _ = run(CHAT, wipe_stream(CHAT, "", reason), answers(CHAT))
    assert tools.made == [("wipe", "/")]


@pytest.mark.parametrize(
    ("speech", "document"),
    [
        (CHAT, {"choices": [{"message": {"tool_calls": [piece(0, "a", "wipe", "{}")]}, "finish_reason": "length"}]}),
        (CHAT, {"choices": [{"message": {"tool_calls": [piece(0, "a", "wipe", '{"pa')]}, "finish_reason": "stop"}]}),
        (CHAT, {"choices": [{"message": {"tool_calls": [piece(0, "a", "wipe", "")]}}]}),
        (
            RESPONSES,
            {
                "status": "incomplete",
                "output": [{"type": "function_call", "call_id": "a", "name": "wipe", "arguments": "{}"}],
            },
        ),
        (
            MESSAGES,
            {"content": [{"type": "tool_use", "id": "a", "name": "wipe", "input": {}}], "stop_reason": "max_tokens"},
        ),
    ],
)
def test_a_document_with_a_call_that_is_cut_off(speech: Speech, document: dict[str, Any]) -> None:
    """An answer that isn't streamed can be cut off too. Some servers close the JSON of the arguments then."""
    left = [json.dumps(document).encode(), answers(speech)]
    output, tools, _, _ = run(speech, *left)
    assert tools.made == [] and output.content == "done"
    assert output.tools[0].tool_call_error


def test_only_calls_that_are_cut_off() -> None:
    """A model that never gets to the end of a call isn't asked for ever: the fourth such answer is an error."""
    output, tools, sent, _ = run(CHAT, wipe_stream(CHAT, '{"pa', "length"))
    assert output.status is RunStatus.error and tools.made == []
    assert "4 answers of the model" in output.error and "'length'" in output.error
    assert len(sent) == 4


@pytest.mark.parametrize("reason", ["length", "content_filter", "stop"])
def test_the_reason_stands_everywhere(reason: str) -> None:
    """On the output, its record, the event of the request, the last event and the message."""
    output, _, _, events = run(CHAT, delta({"content": "The password is"}) + delta({}, reason) + DONE)
    assert output.status is RunStatus.completed and output.content == "The password is"
    assert output.finish_reason == reason and output.messages[-1].finish_reason == reason
    told = [
        event.finish_reason for event in events if isinstance(event, ModelRequestCompletedEvent | RunCompletedEvent)
    ]
    assert told == [reason, reason]
    assert type(output).from_dict(output.to_dict()).finish_reason == reason


def test_an_empty_answer_may_be_meant() -> None:
    """Nothing said, with a reason: a success. With no reason, or an error, it isn't."""
    for reason in ("stop", "length", "content_filter"):
        assert read(CHAT, delta({}, reason) + DONE).reason == reason
    for reason in (None, "error", "abort"):
        with pytest.raises(ModelResponseError, match="empty") as caught:
            read(CHAT, delta({"role": "assistant"}, reason) + DONE)
        assert caught.value.retryable


@pytest.mark.parametrize(
    ("arguments", "reason", "cut"),
    [
        (["{}", "{}"], None, []),
        (["", '{"a'], "stop", []),
        (["{}", "{}"], "length", ["1"]),
        (["", "{}"], "length", ["0", "1"]),
        (["{}", ""], "something_new", ["1"]),
        (["{}", "{}"], "something_new", []),
        ([], "length", []),
    ],
)
def test_which_calls_are_cut_off(arguments: list[str], reason: str | None, cut: list[str]) -> None:
    """Those that aren't whole, and the last one, for reasons that say that the end is missing."""
    calls = [ToolCall(id=str(n), name="f", arguments=text) for n, text in enumerate(arguments)]
    assert sorted(calls_cut_off(calls, reason)) == cut
