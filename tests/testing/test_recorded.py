"""`read_recorded_stream`: what desist makes of a recorded response, without a server."""

from __future__ import annotations

import pytest

from desist.exceptions import ModelError, ModelResponseError
from desist.models.anthropic import Claude
from desist.models.openai import OpenAIChat, OpenAIResponses
from desist.models.response import Usage
from desist.testing import LoopbackProvider, RecordedAnswer, read_recorded_stream

CHAT = b"""data: {"choices": [{"delta": {"content": "<think>hm</think>"}}]}

data: {"choices": [{"delta": {"content": "yes"}}]}

data: {"choices": [{"delta": {"tool_calls": [{"function": {"name": "add", "arguments": "{}"}}]}}]}

data: {"choices": [{"delta": {}, "finish_reason": "length"}], "usage": {"prompt_tokens": 2, "completion_tokens": 3}}

data: [DONE]

"""


def checked(answer: RecordedAnswer) -> None:
    assert (answer.content, answer.reasoning_content, answer.finish_reason) == ("yes", "hm", "length")
    assert [(call.id, call.name, call.arguments) for call in answer.tool_calls] == [("call_0", "add", "{}")]
    assert answer.usage == Usage(input_tokens=2, output_tokens=3, total_tokens=5)


def test_a_recorded_stream() -> None:
    """Whole, or cut into chunks anywhere: text, reasoning, calls, usage and finish reason."""
    checked(read_recorded_stream(OpenAIChat("m"), CHAT))
    checked(read_recorded_stream(OpenAIChat("m"), [CHAT[i : i + 1] for i in range(len(CHAT))]))
    checked(read_recorded_stream(OpenAIChat("m"), (CHAT[:50], b"", CHAT[50:]), tools=["add"]))


def test_what_comes_after_the_end_mark_is_left_out() -> None:
    """As on a connection."""
    checked(read_recorded_stream(OpenAIChat("m"), [CHAT, b'data: {"error": "late"}\n\n']))


def test_the_other_apis_and_documents() -> None:
    """Each model reads its own API; a document is told from a stream by its first byte."""
    events = b'data: {"type": "response.output_text.delta", "delta": "a"}\n\ndata: [DONE]\n\n'
    assert read_recorded_stream(OpenAIResponses("m"), events).content == "a"
    document = b'{"content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn"}'
    assert read_recorded_stream(Claude("m"), document).content == "a"
    assert read_recorded_stream(Claude("m"), document, content_type="application/json").finish_reason == "stop"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "ended before"),
        (CHAT[:60], "ended before"),
        (b"data: [DONE]\n\n", "empty"),
        (b"data: {nonsense\n\n" + CHAT, "isn't a chat completion"),
    ],
)
def test_what_is_no_answer(body: bytes, words: str) -> None:
    """The error that a run would end with."""
    with pytest.raises(ModelResponseError, match=words):
        read_recorded_stream(OpenAIChat("m"), body)


def test_an_error_that_the_provider_reports() -> None:
    """With what says whether a run would try again."""
    with pytest.raises(ModelError, match="too many requests") as caught:
        read_recorded_stream(OpenAIChat("m"), b'data: {"error": {"message": "too many requests", "code": 429}}\n\n')
    assert caught.value.retryable


def test_nothing_is_sent() -> None:
    """Not even to a provider that is there."""
    with LoopbackProvider() as provider:
        checked(read_recorded_stream(OpenAIChat("m", base_url=provider.base_url, api_key="any"), CHAT))
        assert provider.exchanges == []
