"""Errors in all shapes: at status 200, in mid-stream, as an event, as a text. Retried where the cause passes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from http_dialects import SPEECHES, Speech
from http_raw_server import Connection, serving
from http_requests import ask
from wire import CHAT, DONE, JSON, MESSAGES, RESPONSES, data, delta, read

from desist.exceptions import ModelError, ModelResponseError

#: What servers send, what of it is shown, and whether another try makes sense.
ERRORS: dict[str, tuple[Any, str, bool]] = {
    "object": ({"error": {"message": "bad model", "type": "invalid_request_error"}}, "bad model", False),
    "object, passing": ({"error": {"message": "too many", "type": "overloaded_error"}}, "too many", True),
    "code as a number": ({"error": {"message": "slow down", "code": 429}}, "slow down", True),
    "code as text": ({"error": {"message": "gone", "code": "502"}}, "gone", True),
    "code beside it": ({"error": {"message": "gone"}, "code": 503}, "gone", True),
    "status beside a text": ({"error": "gone", "status": 503}, "gone", True),
    "not allowed": ({"error": {"message": "no", "code": 403}}, "no", False),
    "text": ({"error": "model not found"}, "model not found", False),
    "text, passing": ({"error": "the server is overloaded"}, "overloaded", True),
    "true": ({"error": True, "message": "it broke"}, "it broke", False),
    "in a list": ([{"error": {"message": "quota", "status": "RESOURCE_EXHAUSTED"}}], "quota", True),
    "nested": ({"error": {"error": {"message": "deep", "type": "api_error"}}}, "deep", True),
    "errors": ({"errors": [{"message": "first", "code": 500}]}, "first", True),
    "errors, texts": ({"errors": ["first", "second"]}, "first", False),
    "errors, object": ({"errors": {"message": "first"}, "success": False}, "first", False),
    "detail": ({"detail": "Not Found"}, "Not Found", False),
    "detail, list": ({"detail": [{"msg": "field required", "loc": ["body"]}]}, "field required", False),
    "detail, object": ({"detail": {"message": "Service temporarily unavailable"}}, "temporarily", True),
    "base_resp": ({"base_resp": {"status_code": 1004, "status_msg": "login fail"}}, "login fail", False),
    "base_resp, rate": ({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, "rate limit", True),
    "base_resp, unknown": ({"base_resp": {"status_code": 1000, "status_msg": "unknown error"}}, "unknown", True),
    "base_resp, no choices": (
        {"choices": None, "base_resp": {"status_code": 2013, "status_msg": "invalid params"}},
        "invalid params",
        False,
    ),
    "object: error": ({"object": "error", "message": "too long", "code": 400}, "too long", False),
    "type: error": ({"type": "error", "message": "broke", "code": "server_error"}, "broke", True),
    "type: error, object": ({"type": "error", "error": {"type": "overloaded_error", "message": "full"}}, "full", True),
    "status: error": ({"status": "error", "message": "timed out"}, "timed out", True),
    "status and message": ({"status": 500, "message": "internal"}, "internal", True),
    "code and msg": ({"code": 404, "msg": "no such model"}, "no such model", False),
    "success: false": ({"success": False, "message": "nope"}, "nope", False),
    "fault": ({"fault": {"faultstring": "gateway", "detail": {"errorcode": "x"}}}, "gateway", False),
    "code as a word, and a message": ({"code": "Throttling", "message": "Requests rate limit"}, "rate limit", True),
    "code as a number, and a message": ({"code": 1305, "msg": "server busy"}, "busy", True),
    "error_code": ({"error_code": 336100, "error_msg": "try again"}, "try again", True),
    "errno": ({"errno": 17, "errmsg": "no such model"}, "no such model", False),
    "err": ({"err": "it broke"}, "it broke", False),
    "exception": ({"exception": "out of memory"}, "out of memory", False),
    "error_message": ({"error_message": "model overloaded"}, "overloaded", True),
    "errorMessage": ({"errorMessage": "no such model", "errorType": "X"}, "no such model", False),
    "Error, Code, Message": ({"Error": {"Code": "X", "Message": "wrong"}}, "wrong", False),
    "a message alone": ({"message": "Endpoint request timed out"}, "timed out", True),
    "a Message alone": ({"Message": "Too many tokens"}, "Too many tokens", False),
    "in a header": ({"header": {"code": 10013, "message": "blocked"}}, "blocked", False),
    "in data": ({"data": {"error": {"message": "wrong", "code": 500}}}, "wrong", True),
    "in metadata": ({"ResponseMetadata": {"Error": {"Code": "X", "Message": "wrong"}}}, "wrong", False),
    "a problem": ({"type": "about:blank", "title": "Too Many Requests", "status": 429}, "Too Many", True),
    "no message": ({"error": {"code": "model_not_loaded"}}, "model_not_loaded", False),
    "message null": ({"error": {"message": None, "type": "server_error"}}, "server_error", True),
    "exhausted": ({"error": {"message": "no quota", "code": "insufficient_quota"}}, "no quota", False),
    "exhausted, 429": (
        {"error": {"message": "no quota", "type": "insufficient_quota", "code": 429}},
        "no quota",
        False,
    ),
    "exhausted, base_resp": (
        {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
        "balance",
        False,
    ),
}


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("place", ["alone", "after text", "document", "document in a stream's clothes"])
@pytest.mark.parametrize("speech", SPEECHES, ids=str)
def test_errors_in_a_response_of_status_200(speech: Speech, place: str, name: str) -> None:
    """A ModelError with the server's words; text that came before is not lost."""
    document, words, retryable = ERRORS[name]
    kind = JSON if place == "document" else "text/event-stream"
    body = json.dumps(document).encode() if place.startswith("document") else data(document) + DONE
    if place == "after text":
        body = speech.text("some") + body
    with pytest.raises(ModelError, match=words) as caught:
        read(speech, body, kind=kind)
    assert caught.value.retryable is retryable


@pytest.mark.parametrize(
    ("event", "words", "retryable"),
    [
        (b"event: error\ndata: upstream timed out\n\n", "upstream timed out", True),
        (b"event: error\ndata: bad key\n\n", "bad key", False),
        (b'event: error\ndata: {"message": "overloaded"}\n\n', "overloaded", True),
        (b'event: error\ndata: {"error": {"message": "no", "code": 400}}\n\n', "no", False),
        (b'event: error\ndata: "just text"\n\n', "just text", False),
        (b'event: error\ndata: {"code": 529}\n\n', "529", True),
        (b"event: error\ndata:\n\n", "no message", False),
        (b"event: error\ndata: [1]\n\n", "1", False),
        (b'event:error\ndata:{"detail":"gone"}\n\n', "gone", False),
        (b'data: {"detail": "gone"}\nevent: error\n\n', "gone", False),
    ],
)
@pytest.mark.parametrize("speech", SPEECHES, ids=str)
def test_an_event_that_is_named_an_error(speech: Speech, event: bytes, words: str, retryable: bool) -> None:
    """Whatever its data is: JSON of any shape, or a text."""
    with pytest.raises(ModelError, match=words) as caught:
        read(speech, speech.text("some") + event)
    assert caught.value.retryable is retryable


@pytest.mark.parametrize(
    ("text", "retryable"),
    [(b"error: rate limit reached", True), (b"[ERROR] no such model", False), (b"Error", False)],
)
@pytest.mark.parametrize("speech", SPEECHES, ids=str)
def test_a_text_that_says_that_it_is_an_error(speech: Speech, text: bytes, retryable: bool) -> None:
    """Some proxies write it where JSON belongs."""
    with pytest.raises(ModelError, match="the provider reported an error") as caught:
        read(speech, speech.text("some") + data(text) + DONE)
    assert caught.value.retryable is retryable


@pytest.mark.parametrize(("body", "retryable"), [(b"upstream request timeout", True), (b"<html>hello</html>", False)])
def test_a_text_in_place_of_an_answer(body: bytes, retryable: bool) -> None:
    """Neither events nor JSON: an error that shows it, tried again if the words say that the cause passes."""
    with pytest.raises(ModelResponseError, match="expected text/event-stream") as caught:
        read(CHAT, body, kind="text/plain")
    assert caught.value.retryable is retryable


@pytest.mark.parametrize(
    "harmless",
    [
        {"error": None},
        {"error": ""},
        {"error": {}},
        {"error": {"message": None, "code": 0}},
        {"error": False},
        {"errors": []},
        {"detail": None},
        {"base_resp": {"status_code": 0, "status_msg": "success"}},
        {"base_resp": {"status_code": 0, "status_msg": ""}},
        {"base_resp": None},
        {"code": 0, "message": "ok"},
        {"code": 200, "msg": "success"},
        {"code": "processing", "message": "in the queue"},
        {"err": None, "message": "waiting"},
        {"data": {"error": None}},
    ],
)
def test_a_field_for_errors_that_holds_none(harmless: dict[str, Any]) -> None:
    """Some servers send the field always: empty, null, or with a code for success."""
    choice = {"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}
    body = data({"choices": [choice], **harmless}) + data({"choices": [], **harmless}) + data(harmless) + DONE
    assert read(CHAT, body).text == "x"


def test_an_error_in_a_choice() -> None:
    """The error of a provider behind a router stands in the choice; text and finish reason don't hide it."""
    body = delta({"content": "x"}, "error", error={"message": "provider returned error", "code": 502})
    with pytest.raises(ModelError, match="provider returned error") as caught:
        read(CHAT, body + DONE)
    assert (caught.value.status_code, caught.value.retryable) == (502, True)


EMPTY = {
    "nothing": b"",
    "only the end mark": DONE,
    "only comments": b": hello\n\n: hello\n\n",
    "an empty object": data({}) + DONE,
    "no choices": data({"choices": []}) + DONE,
    "a role": delta({"role": "assistant", "content": ""}) + DONE,
    "usage": data({"choices": [], "usage": {"prompt_tokens": 5}}) + DONE,
    "noise": b"data: ping\n\ndata: null\n\n" + DONE,
    "half an event": b'data: {"choices": [{"del',
}


@pytest.mark.parametrize("name", EMPTY)
@pytest.mark.parametrize("speech", SPEECHES, ids=str)
def test_a_stream_that_says_nothing(speech: Speech, name: str) -> None:
    """An error, and it is tried again: the second response counts."""
    with pytest.raises(ModelResponseError) as caught:
        read(speech, EMPTY[name])
    assert caught.value.retryable
    good = speech.text("fine") + speech.almost + speech.end
    assert read(speech, EMPTY[name], good, retries=1).text == "fine"


@pytest.mark.parametrize("body", [b"", b" ", b"null", b"[]", b"3", b'"no"', b"{}", b"[[[", b"{", b'{"a":' * 3000])
@pytest.mark.parametrize("speech", SPEECHES, ids=str)
def test_a_document_that_is_none(speech: Speech, body: bytes) -> None:
    """JSON of another shape, half of it, or too deep: an error that says so."""
    with pytest.raises(ModelError):
        read(speech, body, kind=JSON)


@pytest.mark.parametrize(
    ("status", "body", "words", "retryable"),
    [
        (429, {"error": {"message": "slow down", "type": "rate_limit"}}, "slow down", True),
        (429, {"error": {"message": "pay", "type": "insufficient_quota", "code": "insufficient_quota"}}, "pay", False),
        (429, {"error": {"message": "pay", "code": "billing_hard_limit_reached"}}, "pay", False),
        (429, {"error": {"message": "RateLimitError: code insufficient_quota", "code": "429"}}, "insuff", False),
        (429, {"error": {"type": "exceeded_current_quota_error", "message": "plan"}}, "plan", False),
        (429, {"detail": "Insufficient credits"}, "credits", False),
        (429, [{"error": {"code": 429, "message": "wait", "status": "RESOURCE_EXHAUSTED"}}], "wait", True),
        (400, [{"error": {"code": 400, "message": "no such model"}}], "no such model", False),
        (500, {"errors": [{"message": "broken"}]}, "broken", True),
        (503, {"base_resp": {"status_code": 1002, "status_msg": "busy"}}, "busy", True),
        (500, {"error": "plain"}, "plain", True),
        (422, {"detail": [{"msg": "field required"}]}, "field required", False),
        (402, {"error": {"message": "Insufficient Balance"}}, "Insufficient Balance", False),
        (502, "<html>Bad gateway</html>", "Bad gateway", True),
        (500, {}, "answered 500", True),
    ],
)
@pytest.mark.parametrize("speech", SPEECHES, ids=str)
def test_errors_with_a_status(speech: Speech, status: int, body: Any, words: str, retryable: bool) -> None:
    """The status decides, unless the account is exhausted; the message is found in every shape."""
    asked = []

    def script(connection: Connection) -> None:
        while connection.request() is not None:
            asked.append(1)
            payload = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            connection.whole(status, payload, retry_after_ms="1")

    with serving(script) as server, pytest.raises(ModelError, match=words) as caught:
        ask(speech.at(server.url, max_retries=1))
    assert (caught.value.status_code, caught.value.retryable) == (status, retryable)
    assert len(asked) == 1 + retryable


def test_an_error_that_passes_is_tried_again() -> None:
    """With status 200 too, while nothing was said."""
    bad = json.dumps({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}).encode()
    good = delta({"content": "fine"}, "stop") + DONE
    assert read(CHAT, bad, good, retries=1).text == "fine"
    assert (
        read(RESPONSES, data({"error": "overloaded"}), RESPONSES.text("fine") + RESPONSES.end, retries=1).text == "fine"
    )
    events = b"event: error\ndata: timeout\n\n"
    assert read(MESSAGES, events, MESSAGES.text("fine") + MESSAGES.end, retries=1).text == "fine"
