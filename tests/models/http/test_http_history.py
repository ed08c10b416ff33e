"""Whatever a conversation holds, what is sent of it is valid; and what it says arrives. Found by Hypothesis."""

from __future__ import annotations

import json
from typing import Any

from http_dialects import KEY
from hypothesis import given, settings
from hypothesis import strategies as st
from provider_requests import check_chat_request, check_messages_request, check_responses_request

from desist.models.anthropic import Claude
from desist.models.base import ModelRequest
from desist.models.http.conversation import argument_object, argument_text, plain_id, sendable_messages
from desist.models.http.model import HttpModel
from desist.models.http.text import clean
from desist.models.message import Message, ToolCall
from desist.models.openai import OpenAIChat, OpenAIResponses
from desist.run.records.message import CANCELLED_RESULT

THINKING = {"type": "enabled", "budget_tokens": 1024}
CHECKED: list[tuple[HttpModel, Any]] = [
    (OpenAIChat("m", api_key=KEY), check_chat_request),
    (OpenAIResponses("m", api_key=KEY), check_responses_request),
    (Claude("m", api_key=KEY), check_messages_request),
    (Claude("m", api_key=KEY, thinking=THINKING), check_messages_request),
]
DATA = {
    "anthropic": [{"type": "thinking", "thinking": "hm", "signature": "s"}],
    "openai.responses": [{"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "e"}],
}

texts = st.sampled_from(["", " ", "\n", "words", "words ", "é\ud800", "{}"]) | st.text(max_size=5)
arguments = st.sampled_from(["", "{}", '{"a": 1}', '{"a":', "[1]", "null", "no", '{"a": "\\ud800"}'])
names = st.sampled_from(["add", "functions.add", "", "größe", "a" * 200])
ids = st.sampled_from(["call_0", "call_1", "a|b", "a_b", "é"])  # never empty: an agent makes one up


@st.composite
def answers(draw: st.DrawFn) -> list[Message]:
    """One answer of a model as an agent records it: text, calls with their results, or what a cancel left."""
    cancelled = draw(st.booleans())
    data = None if cancelled else draw(st.none() | st.just(DATA))
    found = draw(st.lists(ids, unique=True, max_size=3))
    calls = [ToolCall(id=i, name=draw(names), arguments=draw(arguments)) for i in found]
    said = Message("assistant", draw(texts), tool_calls=calls or None, cancelled=cancelled, provider_data=data)
    return [said, *(_result(call, draw(st.booleans()), draw(texts)) for call in calls)]


def _result(call: ToolCall, stopped: bool, text: str) -> Message:
    return Message("tool", CANCELLED_RESULT if stopped else text, tool_call_id=call.id, cancelled=stopped)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Runs one after the other, each with its system message, its question and its answers; and a last question."""
    messages: list[Message] = []
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            messages.append(Message("system", draw(texts)))
        if draw(st.booleans()):
            messages.append(Message("user", draw(texts)))
        for answer in draw(st.lists(answers(), max_size=3)):
            messages += answer
    return [*messages, Message("user", "And now?")]


@settings(max_examples=300, deadline=None)
@given(conversations())
def test_every_conversation_is_sent_in_a_valid_form(messages: list[Message]) -> None:
    """Cut off answers, broken arguments, odd names, ids that come back, blank texts: each API's rules are kept."""
    for model, check in CHECKED:
        body = clean(model._body(ModelRequest(messages=messages)))
        check(body)
        json.dumps(body).encode()


@given(conversations())
def test_every_word_and_call_arrives(messages: list[Message]) -> None:
    """Nothing that was said or called is lost on the way: as many calls, and all words, in each API."""
    calls = sum(len(message.tool_calls or ()) for message in messages)
    words = {m.content for m in messages if m.role in ("user", "assistant") and m.content in ("words", "And now?")}
    for model, _ in CHECKED:
        sent = json.dumps(model._body(ModelRequest(messages=messages)))
        kinds = ('"type": "function"', '"type": "function_call"', '"type": "tool_use"')
        assert sum(sent.count(kind) for kind in kinds) == calls
        assert all(word in sent for word in words if word)


@given(st.lists(answers(), max_size=6))
def test_calls_have_ids_of_their_own(several: list[list[Message]]) -> None:
    """Ids that a server used again are told apart, and the results still belong to their calls."""
    told = list(sendable_messages(message for answer in several for message in answer))
    made = [call.id for message in told for call in message.tool_calls or ()]
    assert len(made) == len(set(made))
    assert made == [message.tool_call_id for message in told if message.role == "tool"]


@given(arguments, st.booleans())
def test_arguments_are_an_object(text: str, cancelled: bool) -> None:
    """As the model wrote them where they are one; else empty if a cancel cut them, and shown as text if not."""
    call = ToolCall(id="c", name="f", arguments=text)
    read = argument_object(call, cancelled=cancelled)
    assert json.loads(argument_text(call, cancelled=cancelled)) == read
    try:
        whole = isinstance(json.loads(text), dict)
    except ValueError:
        whole = False
    if whole:
        assert argument_text(call, cancelled=cancelled) == text
    else:
        assert read == ({} if cancelled or not text else {"invalid_json": text})


def test_ids_that_differ_stay_different() -> None:
    """Characters that a provider doesn't take are replaced, and no two ids become one."""
    assert plain_id("call_0-A") == "call_0-A"
    assert len({plain_id(i) for i in ("a|b", "a/b", "a_b", "", "é", "è")}) == 6
