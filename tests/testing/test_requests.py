"""The checks of requests accept what the providers accept, and name the field and the reason of everything else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from provider_requests import check_chat_request, check_messages_request, check_responses_request


def chat_call(call_id: str = "c1", name: str = "f", arguments: Any = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


CHAT: dict[str, Any] = {
    "model": "m",
    "stream": True,
    "stream_options": {"include_usage": True},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {}}]},
        {"role": "assistant", "content": None, "tool_calls": [chat_call("c1"), chat_call("c2")]},
        {"role": "tool", "tool_call_id": "c2", "content": ""},
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "assistant", "content": "so it is"},
    ],
}
RESPONSES: dict[str, Any] = {
    "model": "m",
    "instructions": "be brief",
    "tools": [{"type": "function", "name": "f", "strict": False, "parameters": {"type": "object"}}],
    "text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}}},
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "e"},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c2", "output": ""},
        {"type": "function_call_output", "call_id": "c1", "output": "one"},
        {"role": "assistant", "content": "so it is"},
    ],
}
MESSAGES: dict[str, Any] = {
    "model": "m",
    "max_tokens": 2000,
    "system": [{"type": "text", "text": "be brief"}],
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "tools": [{"name": "f", "input_schema": {"type": "object"}}],
    "output_config": {"format": {"type": "json_schema", "schema": {"type": "object", "additionalProperties": False}}},
    "messages": [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "two calls"},
                {"type": "tool_use", "id": "c1", "name": "f", "input": {}},
                {"type": "tool_use", "id": "c2", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c2"},
                {"type": "tool_result", "tool_use_id": "c1", "content": "one"},
                {"type": "text", "text": "go on"},
            ],
        },
    ],
}

Change = Callable[[dict[str, Any]], Any]


def put(path: str, value: Any) -> Change:
    """Return a change that sets what is at `path`, such as "messages.0.content"."""

    def change(body: dict[str, Any]) -> None:
        *way, last = [int(key) if key.isdecimal() else key for key in path.split(".")]
        place: Any = body
        for key in way:
            place = place[key]
        place[last] = value

    return change


def drop(path: str, index: int) -> Change:
    return lambda body: body[path].pop(index)


def add(path: str, *entries: Any) -> Change:
    return lambda body: body[path].extend(entries)


def insert(path: str, index: int, entry: Any) -> Change:
    return lambda body: body[path].insert(index, entry)


def is_wrong(check: Callable[[Any], None], body: dict[str, Any], change: Change, words: str) -> None:
    """Assert that the body passes, and that the changed one fails with these words."""
    changed = copy.deepcopy(body)
    check(changed)
    change(changed)
    with pytest.raises(AssertionError) as caught:
        check(changed)
    assert words in str(caught.value)


USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("model", ""), "model: must be text"),
        (put("messages", []), "messages: must be a list with at least one"),
        (put("messages.0", "hi"), "messages[0]: must be an object"),
        (put("messages.1.role", "human"), "messages[1].role: must be one of"),
        (put("messages.1.content", None), "messages[1].content"),
        (put("messages.1.content.0.text", " "), "messages[1].content[0].text"),
        (put("messages.5.content", ""), "messages[5].content: must be text that isn't blank"),
        (put("messages.1.tool_calls", [chat_call()]), "messages[1]: only an assistant calls"),
        (put("messages.2.tool_calls", []), "messages[2].tool_calls: must be a list"),
        (put("messages.2.tool_calls.0.type", "f"), "messages[2].tool_calls[0].type"),
        (put("messages.2.tool_calls.1.id", "c1"), "messages[2].tool_calls[1].id: the id 'c1' was used"),
        (put("messages.2.tool_calls.0.function.name", "a b"), "function.name: must be 1 to 128 letters"),
        (put("messages.2.tool_calls.0.function.arguments", '{"a":'), "function.arguments: must be JSON text"),
        (put("messages.2.tool_calls.0.function.arguments", "[]"), "must be the JSON text of an object"),
        (put("messages.2.tool_calls.0.function.arguments", {}), "must be JSON text"),
        (drop("messages", 4), "messages[4]: the call 'c1' at messages[2].tool_calls[0].id has no result before this"),
        (insert("messages", 4, USER), "messages[4]: the call 'c1' at messages[2]"),
        (insert("messages", 3, USER), "messages[3]: the call 'c1' at messages[2]"),
        (put("messages.4.tool_call_id", "c2"), "messages[4].tool_call_id: a second result for the call 'c2'"),
        (put("messages.4.tool_call_id", "c3"), "messages[4].tool_call_id: an orphan result for the call 'c3'"),
        (add("messages", {"role": "assistant", "tool_calls": [chat_call("c3")]}), "the end of messages: the call 'c3'"),
        (put("tools", []), "tools: must be a list"),
        (add("tools", CHAT["tools"][0]), "tools: two tools are called 'f'"),
        (put("tools.0.function.strict", True), "tools[0].function.parameters: an object of a strict schema"),
        (lambda body: (body.pop("tools"), body.update(tool_choice="auto")), "tool_choice: only with tools"),
        (put("stream", False), "stream_options: only with stream"),
    ],
)
def test_chat(change: Change, words: str) -> None:
    """Chat completions: one result for each call, right after it; JSON in arguments; no blank answers."""
    is_wrong(check_chat_request, CHAT, change, words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("model", None), "model"),
        (put("messages", []), "this API calls them input"),
        (put("instructions", " "), "instructions"),
        (put("input", ""), "input"),
        (put("input.0.role", "tool"), "input[0].role"),
        (put("input.0.content", ""), "input[0].content"),
        (put("input.0.content.0.text", ""), "input[0].content[0].text"),
        (put("input.0.type", "novelty"), "input[0].type: 'novelty' is unknown"),
        (put("input.1.summary", None), "input[1].summary"),
        (lambda body: [body["input"][1].pop(key) for key in ("id", "encrypted_content")], "input[1]: reasoning needs"),
        (insert("input", 2, USER), "input[1]: reasoning must be followed"),
        (add("input", RESPONSES["input"][1]), "input[7]: reasoning must be followed"),
        (put("input.3.call_id", "c1"), "input[3].call_id: the id 'c1' was used"),
        (put("input.2.name", ""), "input[2].name"),
        (put("input.2.arguments", "no"), "input[2].arguments"),
        (put("input.4.output", None), "input[4].output"),
        (drop("input", 5), "input[5]: the call 'c1' at input[2].call_id has no result"),
        (put("input.5.call_id", "c9"), "input[5].call_id: an orphan result"),
        (insert("input", 5, {**RESPONSES["input"][2], "call_id": "c3"}), "input[5].call_id: the call 'c1'"),
        (add("input", {**RESPONSES["input"][2], "call_id": "c3"}), "the end of input: the call 'c3'"),
        (put("tools.0.function", {}), "tools[0]: name and parameters stand beside type"),
        (put("tools.0.strict", True), "tools[0].parameters: an object of a strict schema"),
        (put("text.format.strict", True), "text.format.schema: an object of a strict schema"),
        (put("text.format.type", "xml"), "text.format.type: 'xml'"),
        (lambda body: (body.pop("tools"), body.update(tool_choice="auto")), "tool_choice: only with tools"),
    ],
)
def test_responses(change: Change, words: str) -> None:
    """The Responses API: one output for each call, before other items; reasoning together with its answer."""
    is_wrong(check_responses_request, RESPONSES, change, words)


TEXT = {"type": "text", "text": "x"}


def _prefill(text: str) -> Change:
    return add("messages", {"role": "assistant", "content": [{"type": "text", "text": text}]})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("model", 3), "model"),
        (put("max_tokens", None), "max_tokens: must be a whole number"),
        (put("system", ""), "system"),
        (put("system.0.text", ""), "system[0].text"),
        (drop("messages", 0), "messages[0].role: must be 'user'"),
        (put("messages.0.role", "system"), "messages[0].role"),
        (insert("messages", 1, USER), "messages[1].role: must be 'assistant'"),
        (put("messages.0.content", " "), "messages[0].content"),
        (put("messages.0.content", []), "messages[0].content"),
        (put("messages.1.content.1.text", "\n"), "messages[1].content[1].text"),
        (put("messages.1.content.1.type", "image"), "messages[1].content[1].type: assistant may have text"),
        (put("messages.1.content.0.signature", ""), "messages[1].content[0].signature"),
        (put("messages.1.content.2.id", "a|b"), "messages[1].content[2].id: must be 1 to 128 letters"),
        (put("messages.1.content.3.id", "c1"), "messages[1].content[3].id: the id 'c1' was used"),
        (put("messages.1.content.2.name", "a.b"), "messages[1].content[2].name"),
        (put("messages.1.content.2.input", "{}"), "messages[1].content[2].input: must be an object"),
        (put("messages.2.content", "go on"), "messages[2]: the call 'c1'"),
        (lambda body: body["messages"][2]["content"].pop(1), "messages[2].content[1]: the call 'c1'"),
        (
            lambda body: body["messages"][2]["content"].insert(0, {"type": "text", "text": "x"}),
            "messages[2].content[0]",
        ),
        (put("messages.2.content.1.content", 3), "messages[2].content[1].content"),
        (put("messages.2.content.1.tool_use_id", "c9"), "messages[2].content[1].tool_use_id: an orphan result"),
        (drop("messages", 2), "the end of messages: the call 'c1'"),
        (_prefill("so it is "), "messages[3].content: a last answer must not end in white space"),
        (lambda body: body["messages"][1]["content"].pop(0), "messages[1].content[0]: must be thinking before calls"),
        (put("thinking.budget_tokens", 2000), "thinking.budget_tokens"),
        (lambda body: body.pop("tools"), "tools: must be defined where tools were called"),
        (put("tools.0.input_schema", {}), "tools[0].input_schema.type"),
        (add("tools", MESSAGES["tools"][0]), "two tools are called 'f'"),
        (put("tool_choice", "auto"), "tool_choice: must be an object"),
        (put("output_config.format.schema.additionalProperties", True), "output_config.format.schema: an object"),
    ],
)
def test_messages(change: Change, words: str) -> None:
    """The Messages API.

    Alternating roles, results first, no blank text, plain ids, thinking before calls, tools defined.
    """
    is_wrong(check_messages_request, MESSAGES, change, words)


@pytest.mark.parametrize("text", ["so it is", "so"])
def test_an_answer_to_be_continued_may_be_last(text: str) -> None:
    """A last answer without trailing white space passes."""
    body = copy.deepcopy(MESSAGES)
    _prefill(text)(body)
    check_messages_request(body)
