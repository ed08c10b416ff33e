"""Usage is found wherever it stands, and the total is the sum if the model gave none."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from http_dialects import typed
from wire import CHAT, DONE, JSON, MESSAGES, RESPONSES, chunk, data, delta, read

from desist import Agent
from desist.models.base import Model, ModelRequest
from desist.models.response import ModelResponse, Usage

TOLD = {"prompt_tokens": 7, "completion_tokens": 5}
FOUND = Usage(input_tokens=7, output_tokens=5, total_tokens=12)
TEXT = delta({"content": "x"})


def usages(usage: Any) -> bytes:
    return chunk(choices=[], usage=usage)


CHAT_USAGE = {
    "in a chunk without choices": (TEXT + delta({}, "stop") + usages(TOLD), FOUND),
    "choices null": (TEXT + delta({}, "stop") + chunk(choices=None, usage=TOLD), FOUND),
    "no choices": (TEXT + delta({}, "stop") + chunk(usage=TOLD), FOUND),
    "before the finish reason": (TEXT + usages(TOLD) + delta({}, "stop"), FOUND),
    "in the last chunk": (TEXT + chunk(choices=[{"delta": {}, "finish_reason": "stop"}], usage=TOLD), FOUND),
    "in a choice": (TEXT + delta({}, "stop", usage=TOLD), FOUND),
    "in x_groq": (
        TEXT + chunk(choices=[{"delta": {}, "finish_reason": "stop"}], x_groq={"id": "r", "usage": TOLD}),
        FOUND,
    ),
    "in a delta": (TEXT + delta({"usage": TOLD}, "stop"), FOUND),
    "in a message": (data({"choices": [{"message": {"content": "x", "usage": TOLD}, "finish_reason": "stop"}]}), FOUND),
    "in no object": (TEXT + delta({}, "stop") + data(TOLD), FOUND),
    "in a list": (TEXT + usages([TOLD]), FOUND),
    "in camel case": (TEXT + usages({"promptTokens": 7, "completionTokens": 5, "totalTokens": 12}), FOUND),
    "usageMetadata": (TEXT + data({"usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 5}}), FOUND),
    "usage_metadata": (TEXT + data({"usage_metadata": {"prompt_token_count": 7, "candidates_token_count": 5}}), FOUND),
    "token_usage": (TEXT + data({"token_usage": TOLD}), FOUND),
    "eval_count": (TEXT + data({"done": True, "prompt_eval_count": 7, "eval_count": 5}), FOUND),
    "billed units": (TEXT + usages({"billed_units": {"input_tokens": 7, "output_tokens": 5}}), FOUND),
    "in every chunk, null": (chunk(choices=[{"delta": {"content": "x"}}], usage=None) + usages(TOLD), FOUND),
    "in every chunk, counting": (usages({"prompt_tokens": 7, "completion_tokens": 1}) + TEXT + usages(TOLD), FOUND),
    "in every chunk, the last empty": (usages(TOLD) + TEXT + usages({}), FOUND),
    "in every chunk, the last zero": (
        usages(TOLD) + TEXT + usages({"prompt_tokens": 0, "completion_tokens": 0}),
        FOUND,
    ),
    "halves": (usages({"prompt_tokens": 7}) + TEXT + usages({"completion_tokens": 5}), FOUND),
    "in and out": (TEXT + usages({"input_tokens": 7, "output_tokens": 5}), FOUND),
    "a total": (TEXT + usages({**TOLD, "total_tokens": 20}), Usage(input_tokens=7, output_tokens=5, total_tokens=20)),
    "a total of 0": (TEXT + usages({**TOLD, "total_tokens": 0}), FOUND),
    "a total of null": (TEXT + usages({**TOLD, "total_tokens": None}), FOUND),
    "a total that is too old": (
        usages({**TOLD, "completion_tokens": 1, "total_tokens": 8}) + TEXT + usages(TOLD),
        FOUND,
    ),
    "only a total": (TEXT + usages({"total_tokens": 12}), Usage(total_tokens=12)),
    "nulls": (TEXT + usages({"prompt_tokens": None, "completion_tokens": 5}), Usage(output_tokens=5, total_tokens=5)),
    "floats": (TEXT + usages({"prompt_tokens": 7.0, "completion_tokens": 5.5}), FOUND),
    "texts": (TEXT + usages({"prompt_tokens": "7", "completion_tokens": "5"}), FOUND),
    "below zero": (
        TEXT + usages({"prompt_tokens": -7, "completion_tokens": 5}),
        Usage(output_tokens=5, total_tokens=5),
    ),
    "too large": (
        TEXT + usages({"prompt_tokens": 10**40, "completion_tokens": 5}),
        Usage(output_tokens=5, total_tokens=5),
    ),
    "not a number": (
        TEXT + b'data: {"usage": {"prompt_tokens": NaN, "completion_tokens": 5}}\n\n',
        Usage(output_tokens=5, total_tokens=5),
    ),
    "infinite": (
        TEXT + b'data: {"usage": {"prompt_tokens": 1e999, "completion_tokens": 5}}\n\n',
        Usage(output_tokens=5, total_tokens=5),
    ),
    "details": (
        TEXT
        + usages(
            {
                **TOLD,
                "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
                "completion_tokens_details": {"reasoning_tokens": 4},
            }
        ),
        Usage(
            input_tokens=7,
            output_tokens=5,
            total_tokens=12,
            reasoning_tokens=4,
            cache_read_tokens=3,
            cache_write_tokens=2,
        ),
    ),
    "details null": (TEXT + usages({**TOLD, "prompt_tokens_details": None, "completion_tokens_details": None}), FOUND),
    "details of nulls": (TEXT + usages({**TOLD, "prompt_tokens_details": {"cached_tokens": None}}), FOUND),
    "details in a list": (TEXT + usages({**TOLD, "prompt_tokens_details": []}), FOUND),
    "details as text": (TEXT + usages({**TOLD, "completion_tokens_details": "n/a"}), FOUND),
    "cached beside": (
        TEXT + usages({**TOLD, "prompt_cache_hit_tokens": 3}),
        Usage(input_tokens=7, output_tokens=5, total_tokens=12, cache_read_tokens=3),
    ),
    "none": (TEXT, None),
    "null": (TEXT + usages(None), None),
    "text": (TEXT + usages("n/a"), None),
    "a list": (TEXT + usages([]), None),
}


@pytest.mark.parametrize("name", CHAT_USAGE)
def test_usage_of_chat_completions(name: str) -> None:
    """Counts are taken from where a server puts them; what is no count is left out, and costs nothing else."""
    body, expected = CHAT_USAGE[name]
    found = read(CHAT, body + DONE)
    assert (found.text, found.usage) == ("x", expected)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (TOLD, FOUND),
        ({"input_tokens": 7, "output_tokens": 5}, FOUND),
        ({"input_tokens": 7, "output_tokens": 5, "total_tokens": 12, "input_tokens_details": None}, FOUND),
        (
            {"input_tokens": 7, "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 2}},
            Usage(input_tokens=7, output_tokens=5, total_tokens=12, reasoning_tokens=2),
        ),
        (None, None),
        ("n/a", None),
    ],
)
def test_usage_of_the_responses_api(usage: Any, expected: Usage | None) -> None:
    """In the last event or in the document, under the names of either API of OpenAI's."""
    message = {"type": "message", "content": [{"text": "x"}]}
    response = {"status": "completed", "output": [message], "usage": usage}
    assert read(RESPONSES, typed("response.completed", response=response)).usage == expected
    assert read(RESPONSES, json.dumps(response).encode(), kind=JSON).usage == expected


def test_usage_elsewhere_in_the_responses_api() -> None:
    """Beside the response, in an earlier one, or in an event of its own; the Messages API: in the delta."""
    usage = {"input_tokens": 7, "output_tokens": 5}
    end = typed("response.completed", response={"status": "completed", "output": []})
    for body in (
        typed("response.completed", response={"status": "completed", "output": []}, usage=usage),
        typed("response.in_progress", response={"status": "in_progress", "usage": usage}) + end,
        typed("response.usage", usage=usage) + end,
    ):
        assert read(RESPONSES, RESPONSES.text("x") + body).usage == FOUND
    body = typed("message_delta", delta={"stop_reason": "end_turn", "usage": usage}) + typed("message_stop")
    assert read(MESSAGES, MESSAGES.text("x") + body).usage == FOUND


CACHED = {"cache_read_input_tokens": 2, "cache_creation_input_tokens": 1}
WITH_CACHE = Usage(input_tokens=10, output_tokens=5, total_tokens=15, cache_read_tokens=2, cache_write_tokens=1)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ({"input_tokens": 7, "output_tokens": 1}, {"output_tokens": 5}, FOUND),
        ({"input_tokens": 0, "output_tokens": 0}, {"input_tokens": 7, "output_tokens": 5}, FOUND),
        ({"input_tokens": 7, "output_tokens": 1}, {"input_tokens": 0, "output_tokens": 5}, FOUND),
        (None, {"input_tokens": 7, "output_tokens": 5}, FOUND),
        ({"input_tokens": 7, "output_tokens": 5}, None, FOUND),
        ({"inputTokens": 7}, {"outputTokens": 5}, FOUND),
        (None, TOLD, FOUND),
        ({"input_tokens": 7, **CACHED}, {"output_tokens": 5}, WITH_CACHE),
        ({"input_tokens": 7}, {"output_tokens": 5, **CACHED}, WITH_CACHE),
        ({"input_tokens": 7, "cache_read_input_tokens": None}, {"output_tokens": 5}, FOUND),
        (None, None, None),
        ("n/a", [], None),
    ],
)
def test_usage_of_the_messages_api(start: Any, end: Any, expected: Usage | None) -> None:
    """At the beginning, at the end, or in both: a count that is missing or 0 keeps its value."""
    body = typed("message_start", message={"content": [], "usage": start}) + MESSAGES.text("x")
    body += typed("message_delta", delta={"stop_reason": "end_turn"}, usage=end) + typed("message_stop")
    assert read(MESSAGES, body).usage == expected


def test_a_whole_answer() -> None:
    """Usage of an answer that isn't streamed."""
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": TOLD}
    assert read(CHAT, json.dumps(body).encode(), kind=JSON).usage == FOUND
    assert read(CHAT, data(body) + DONE).usage == FOUND


class Counting(Model):
    """A model of a program's own that gives no total."""

    id = "counting"

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelResponse]:
        yield ModelResponse(content="x", usage=Usage(input_tokens=7, output_tokens=5))


def test_the_total_is_the_sum() -> None:
    """For every model, whoever wrote it."""
    assert Usage(input_tokens=7, output_tokens=5).total_tokens == 12
    assert Usage(input_tokens=7, output_tokens=5, total_tokens=20).total_tokens == 20
    assert Usage().total_tokens == 0
    assert Agent(Counting()).run("Hi").metrics.total_tokens == 12
