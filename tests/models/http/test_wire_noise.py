"""Keep-alives and noise are ignored; a field that nobody needs never costs an answer, whatever its type."""

from __future__ import annotations

import json
from typing import Any

import pytest
from http_dialects import SPEECHES, Speech, typed
from wire import CHAT, DONE, JSON, MESSAGES, RESPONSES, data, delta, read

from desist.exceptions import ModelResponseError

NOISE = {
    "empty data": b"data: \n\n",
    "no data": b"data:\n\n",
    "blank data": b"data:    \n\n",
    "null": b"data: null\n\n",
    "a text": b"data: ping\n\n",
    "a text in quotes": b'data: "ping"\n\n',
    "a number": b"data: 0\n\n",
    "true": b"data: true\n\n",
    "an empty object": b"data: {}\n\n",
    "an empty list": b"data: []\n\n",
    "a list": b"data: [1, 2]\n\n",
    "a text in brackets": b"data: [ping]\n\n",
    "a comment": b": OPENROUTER PROCESSING\n\n",
    "comments": b":\n:\n\n: x\n\n",
    "a named ping": b"event: ping\ndata: ping\n\n",
    "a named ping, JSON": b'event: ping\ndata: {"type": "ping"}\n\n',
    "a named ping, nothing": b"event: ping\n\n",
    "a named keep-alive": b"event: keep-alive\ndata:\n\n",
    "only other fields": b"id: 1\nretry: 3000\n\n",
    "an unknown field": b"heartbeat: 1\n\n",
    "no field": b"keep-alive\n\n",
    "blank lines": b"\n\n\n\n",
    "an unknown type": b'data: {"type": "heartbeat", "at": 1}\n\n',
    "a status": b'data: {"status": "processing", "message": "waiting"}\n\n',
    "progress": b'data: {"object": "progress", "progress": 0.5}\n\n',
    "a queue": b'data: {"type": "queue", "position": 3}\n\n',
    "a message that says nothing": b'data: {"message": "warming up", "code": 0}\n\n',
    "an undefined": b"data: undefined\n\n",
    "an HTML comment": b"data: <!-- keep-alive -->\n\n",
    "several lines of nothing": b"data:\ndata:\n\n",
    "two prefixes, nothing": b"data: data:\n\n",
}


@pytest.mark.parametrize("name", NOISE)
@pytest.mark.parametrize("speech", SPEECHES, ids=str)
def test_noise_anywhere_in_a_stream(speech: Speech, name: str) -> None:
    """Before, between and after the pieces: the answer is the same."""
    noise = NOISE[name]
    body = noise + speech.text("a") + noise * 2 + speech.text("b") + noise + speech.almost + noise + speech.end
    found = read(speech, body + noise)
    assert (found.text, found.reason) == ("ab", "stop")


def of_chat(text: str) -> bytes:
    return json.dumps({"choices": [{"delta": {"content": text}}]}).encode()


FRAMES = {
    "no blank after the colon": b"data:" + of_chat("ab") + b"\n\ndata:[DONE]\n\n",
    "CR": b"data: " + of_chat("ab") + b"\r\rdata: [DONE]\r\r",
    "CRLF": b"data: " + of_chat("ab") + b"\r\n\r\ndata: [DONE]\r\n\r\n",
    "one line end": b"data: " + of_chat("a") + b"\ndata: " + of_chat("b") + b"\ndata: [DONE]\n",
    "one line end, no end": b"data: " + of_chat("a") + b"\ndata: " + of_chat("b") + b"\ndata: [DONE]",
    "two prefixes": b"data: data: " + of_chat("ab") + b"\n\ndata: data: [DONE]\n\n",
    "the end mark in quotes": data(json.loads(of_chat("ab"))) + b'data: "[DONE]"\n\n',
    "the end mark in lower case": data(json.loads(of_chat("ab"))) + b"data: [done]\n\n",
    "blanks around": b"data:   " + of_chat("ab") + b"  \n\ndata:  [DONE] \n\n",
    "a byte order mark": b"\xef\xbb\xbfdata: " + of_chat("ab") + b"\n\ndata: [DONE]\n\n",
    "a byte order mark in the data": b"data: \xef\xbb\xbf" + of_chat("ab") + b"\n\ndata: [DONE]\n\n",
    "JSON over lines": b"data: "
    + json.dumps(json.loads(of_chat("ab")), indent=1).replace("\n", "\ndata: ").encode()
    + b"\n\n"
    + DONE,
    "in a list": data([json.loads(of_chat("a")), json.loads(of_chat("b"))]) + DONE,
    "the last event without an end": data(json.loads(of_chat("ab"))) + b"data: [DONE]",
    "half an event after the answer": delta({"content": "ab"}, "stop") + b'data: {"choi',
    "a line break in a text": b'data: {"choices": [{"delta": {"content": "ab\\u000a"}}]}\n\n'.replace(b"\\u000a", b"\t")
    + DONE,
}


@pytest.mark.parametrize("name", FRAMES)
def test_frames(name: str) -> None:
    """However a server frames its events, the text comes out."""
    assert read(CHAT, FRAMES[name]).text.rstrip() == "ab"


ODD: list[Any] = [None, "", "x", 0, 7, -1, 1.5, True, False, [], [1], ["x"], [[]], {}, {"x": 1}, [{}], [{"text": 3}]]
CHUNK = [
    "id",
    "object",
    "created",
    "model",
    "system_fingerprint",
    "service_tier",
    "provider",
    "usage",
    "x_groq",
    "timings",
]
CHOICE = ["index", "logprobs", "native_finish_reason", "stop_reason", "content_filter_results", "usage", "matched_stop"]
DELTA = [
    *["role", "refusal", "tool_calls", "function_call", "reasoning", "reasoning_content", "reasoning_details", "audio"],
    *["annotations", "name", "reasoning_text"],
]


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("streamed", [True, False])
def test_odd_types_in_chat_completions(odd: Any, streamed: bool) -> None:
    """Any value in any field that isn't needed: text and finish reason are there, and no error."""
    bodies = []
    for place, names in (("chunk", CHUNK), ("choice", CHOICE), ("delta", DELTA)):
        for name in names:
            if name == "index" and isinstance(odd, int) and odd:
                continue  # another choice
            content: dict[str, Any] = {"content": "a", **({name: odd} if place == "delta" else {})}
            choice = {"delta" if streamed else "message": content, **({name: odd} if place == "choice" else {})}
            bodies.append({"choices": [choice], **({name: odd} if place == "chunk" else {})})
    if streamed:
        found = read(CHAT, b"".join(map(data, bodies)) + delta({}, "stop") + DONE)
        text = found.text.replace("x", "")  # a refusal that is a text is one
        assert text == "a" * len(bodies) and found.reason in ("stop", "refusal")
        return
    for body in bodies:
        body["choices"][0]["finish_reason"] = "stop"
        assert read(CHAT, json.dumps(body).encode(), kind=JSON).text.startswith("a")


RESPONSE_FIELDS = [
    "sequence_number",
    "output_index",
    "content_index",
    "item_id",
    "logprobs",
    "obfuscation",
    "usage",
    "name",
]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_odd_types_in_the_responses_api(odd: Any) -> None:
    """Also in the response that the last event repeats."""
    body = b"".join(
        typed("response.output_text.delta", **({"output_index": 0, "delta": "a"} | {name: odd}))
        for name in RESPONSE_FIELDS
    )
    fields = [
        "id",
        "usage",
        "output",
        "error_code",
        "incomplete_details",
        "metadata",
        "tools",
        "reasoning",
        "text",
        "status",
    ]
    for name in fields:
        value = "completed" if name == "status" and isinstance(odd, str) else odd
        end = typed("response.completed", response={"status": "completed", "output": [], name: value})
        found = read(RESPONSES, body + end)
        assert (found.text, found.reason) == ("a" * len(RESPONSE_FIELDS), "stop")


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_odd_types_in_the_messages_api(odd: Any) -> None:
    """Also in the first and last event."""
    start = [
        typed("message_start", message={"id": "m", "content": [], name: odd})
        for name in ("id", "model", "role", "usage", "stop_sequence", "container")
    ]
    body = [
        typed("content_block_start", index=0, content_block={"type": "text", "text": "", "citations": odd}),
        *[
            typed("content_block_delta", **({"index": 0, "delta": {"type": "text_delta", "text": "a"}} | {name: odd}))
            for name in ("index", "usage", "sequence")
        ],
        typed("content_block_delta", index=0, delta={"type": "text_delta", "text": "a", "citation": odd, "id": odd}),
        typed("content_block_stop", index=odd),
        typed(
            "message_delta", delta={"stop_reason": "end_turn", "stop_sequence": odd}, usage=odd, context_management=odd
        ),
        typed("message_stop", more=odd),
    ]
    found = read(MESSAGES, b"".join([*start, *body]))
    assert (found.text, found.reason) == ("aaaa", "stop")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (data({"choices": {"index": 0, "delta": {"content": "ab"}}}), "ab"),
        (data({"choices": [{"index": "0", "delta": {"content": "ab"}}]}), "ab"),
        (data({"choices": [{"index": 1, "delta": {"content": "ab"}}]}), "ab"),
        (
            data({"choices": [{"delta": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}}]}),
            "ab",
        ),
        (data({"choices": [{"delta": {"content": {"type": "text", "text": "ab"}}}]}), "ab"),
        (
            data({"choices": [{"delta": {"content": [{"text": "ab"}, {"type": "image_url", "image_url": {}}, 3]}}]}),
            "ab",
        ),
        (data({"choices": [{"text": "ab"}]}), "ab"),
        (data({"choices": [{"message": {"content": "ab"}}]}), "ab"),
        (delta({"content": "ab"}) + data({"choices": [{"delta": {}, "message": {"content": "ab"}}]}), "ab"),
        (
            delta({"content": "a"})
            + data({"choices": [{"index": 1, "delta": {"content": "other"}}]})
            + delta({"content": "b"}),
            "ab",
        ),
        (data({"choices": [{"delta": None}]}) + delta({"content": "ab"}), "ab"),
        (data({"choices": [None, {"delta": {"content": "ab"}}]}), "ab"),
        (data({"choices": [{"delta": {"content": "ab\ud83d"}}]}), "ab\ufffd"),
        (b'data: {"choices": [{"delta": {"content": "ab\xff"}}]}\n\n', "ab\ufffd"),
        (b'data: {"choices": [{"delta": {"content": "ab"}}], "created": NaN}\n\n', "ab"),
        (b'data: {"choices": [{"delta": {"content": "ab"}}], "created": 1e999}\n\n', "ab"),
        (b'data: {"choices": [{"delta": {"content": "ab"}}], "x": ' + b"[" * 500 + b"]" * 500 + b"}\n\n", "ab"),
    ],
)
def test_text_in_odd_places(body: bytes, text: str) -> None:
    """What the model said is found where servers put it, once."""
    assert read(CHAT, body + DONE).text == text


MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "ab"}]}


def completed(*items: Any) -> bytes:
    return typed("response.completed", response={"status": "completed", "output": list(items)})


@pytest.mark.parametrize(
    "body",
    [
        completed(MESSAGE),
        typed("response.output_item.done", output_index=0, item=MESSAGE) + completed(MESSAGE),
        typed("response.output_text.done", output_index=0, content_index=0, text="ab") + completed(MESSAGE),
        RESPONSES.text("ab")
        + typed("response.output_text.done", output_index=0, content_index=0, text="ab")
        + completed(),
        typed("response.content_part.done", content_index=0, part={"type": "output_text", "text": "ab"}) + completed(),
        typed("response.output_text.done", output_index=0, content_index=0, text="ab")
        + typed("response.content_part.done", output_index=0, content_index=0, part={"text": "ab"})
        + completed(MESSAGE),
        RESPONSES.text("ab") + typed("response.output_item.done", output_index=0, item=MESSAGE) + completed(MESSAGE),
        typed("response.output_text.delta", item_id="m", delta="ab")
        + typed("response.output_item.done", item={**MESSAGE, "id": "m"})
        + completed(MESSAGE),
        data({"object": "response", "status": "completed", "output": [MESSAGE]}),
        json.dumps({"status": "completed", "output": [MESSAGE]}).encode(),
        json.dumps({"response": {"status": "completed", "output": [MESSAGE]}}).encode(),
    ],
)
def test_text_that_comes_late(body: bytes) -> None:
    """A proxy may send the text in pieces, with the item, or only with the last event: it comes out once."""
    assert read(RESPONSES, body).text == "ab"


@pytest.mark.parametrize(
    "body",
    [
        data({"type": "message", "content": [{"type": "text", "text": "ab"}], "stop_reason": "end_turn"}),
        data({"content": "ab", "stop_reason": "end_turn"}),
        typed("message_start", message={"content": [{"type": "text", "text": "ab"}]}) + typed("message_stop"),
        typed("content_block_start", index=0, content_block={"type": "text", "text": "ab"}) + typed("message_stop"),
        typed("content_block_delta", delta={"text": "ab"}) + typed("message_stop"),
        data({"index": 0, "delta": {"text": "ab"}}) + typed("message_stop"),
        MESSAGES.text("ab")
        + data({"type": "message", "content": [{"type": "text", "text": "ab"}], "stop_reason": "stop"}),
        MESSAGES.text("ab") + DONE,
    ],
)
def test_text_of_messages(body: bytes) -> None:
    """In blocks, in their pieces, or in a message that comes whole."""
    assert read(MESSAGES, body).text == "ab"


@pytest.mark.parametrize("body", [b"data: {nonsense\n\n", b'data: {"choices": [{"delta": {"content": "b\n\n'])
def test_json_that_is_broken_in_mid_stream_is_an_error(body: bytes) -> None:
    """What began as JSON isn't noise: something of the answer is missing."""
    with pytest.raises(ModelResponseError, match="isn't a chat completion"):
        read(CHAT, delta({"content": "a"}) + body + delta({}, "stop") + DONE)
