"""Reasoning is apart from the answer, wherever a server puts it, and isn't in the next prompt."""

from __future__ import annotations

import json
from typing import Any

import pytest
from http_dialects import SPEECHES, Speech, typed
from http_raw_server import Connection, serving
from hypothesis import given
from hypothesis import strategies as st
from wire import CHAT, DONE, JSON, KEY, MESSAGES, RESPONSES, data, delta, read

from desist import Agent
from desist.models.http.think_tags import ThinkTags

#: The text of an answer; what of it is reasoning, and what is the answer.
TAGS = {
    "plain": ("<think>hm</think>yes", "hm", "yes"),
    "line ends": ("<think>\nhm\n</think>\n\nyes\n", "\nhm\n", "yes\n"),
    "blanks before": ("\n  <think>hm</think>yes", "hm", "yes"),
    "upper case": ("<THINK>hm</Think>yes", "hm", "yes"),
    "brackets": ("[THINK]hm[/THINK]yes", "hm", "yes"),
    "not closed": ("<think>hm, so", "hm, so", ""),
    "half closed": ("<think>hm</thin", "hm</thin", ""),
    "nothing in it": ("<think></think>yes", "", "yes"),
    "nothing after it": ("<think>hm</think>", "hm", ""),
    "blanks after it": ("<think>hm</think>\n \n", "hm", ""),
    "something like an end": ("<think>a < b </thin > c</think>yes", "a < b </thin > c", "yes"),
    "the other end": ("<think>hm[/THINK]so</think>yes", "hm[/THINK]so", "yes"),
    "two": ("<think>hm</think>yes<think>so</think>", "hm", "yes<think>so</think>"),
    "later": ("yes <think>hm</think>", "", "yes <think>hm</think>"),
    "only an end": ("yes</think>no", "", "yes</think>no"),
    "another tag": ("<thinking>hm</thinking>yes", "", "<thinking>hm</thinking>yes"),
    "the beginning of a tag": ("<thi", "", "<thi"),
    "less than": ("<3", "", "<3"),
    "a list": ("[1, 2]", "", "[1, 2]"),
    "blanks": ("  \n", "", "  \n"),
    "a letter that grows in lower case": ("<think>\u0130\u0130</think>\u0130", "\u0130\u0130", "\u0130"),
}


@pytest.mark.parametrize("name", TAGS)
@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("speech", SPEECHES, ids=str)
def test_tags_in_the_text(speech: Speech, size: int, name: str) -> None:
    """Only at the beginning, wherever the pieces end; without its end, all is reasoning."""
    text, thought, answer = TAGS[name]
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    found = read(speech, b"".join(map(speech.text, pieces)) + speech.almost + speech.end)
    assert (found.thought, found.text) == (thought, answer)


@given(st.data())
def test_tags_cut_anywhere(draw: st.DataObject) -> None:
    """Any cuts give the same as none."""
    text, thought, answer = TAGS[draw.draw(st.sampled_from(sorted(TAGS)))]
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    tags, thoughts, texts = ThinkTags(), "", ""
    for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        one, two = tags.split(text[begin:end]) if tags.open else ("", text[begin:end])
        thoughts, texts = thoughts + one, texts + two
    one, two = tags.rest()
    assert (thoughts + one, texts + two) == (thought, answer)


FIELDS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "reasoning_content": ([{"reasoning_content": "h"}, {"reasoning_content": "m"}], "hm"),
    "reasoning": ([{"reasoning": "h"}, {"reasoning": "m"}], "hm"),
    "reasoning_text": ([{"reasoning_text": "hm"}], "hm"),
    "thinking": ([{"thinking": "hm"}], "hm"),
    "both": ([{"reasoning_content": "hm", "reasoning": "hm"}], "hm"),
    "one is empty": (
        [{"reasoning_content": "", "reasoning": "hm"}, {"reasoning_content": None, "reasoning": None}],
        "hm",
    ),
    "an object": ([{"reasoning": {"text": "hm"}}], "hm"),
    "an object, content": ([{"reasoning": {"content": "hm"}}], "hm"),
    "an object of another kind": ([{"reasoning": {"effort": "low"}}], ""),
    "a list": ([{"reasoning_content": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]}], "hm"),
    "details": ([{"reasoning_details": [{"type": "reasoning.text", "text": "hm", "index": 0}]}], "hm"),
    "details, summary": ([{"reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]}], "hm"),
    "details, sealed": ([{"reasoning_details": [{"type": "reasoning.encrypted", "data": "xyz"}]}], ""),
    "details and text": ([{"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}], "hm"),
    "in the content": ([{"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}], "hm"),
    "in the content, text": ([{"content": [{"type": "thinking", "thinking": "hm"}]}], "hm"),
    "in the content, reasoning": ([{"content": [{"type": "reasoning", "text": "hm"}]}], "hm"),
    "an odd type": ([{"reasoning_content": 7}, {"reasoning": False}, {"reasoning_details": "n/a"}], "n/a"),
}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("streamed", [True, False])
def test_fields_of_chat_completions(streamed: bool, name: str) -> None:
    """Under any of the names, as a text, an object or a list; said twice, it counts once."""
    deltas, thought = FIELDS[name]
    if streamed:
        found = read(CHAT, b"".join(map(delta, deltas)) + delta({"content": "yes"}, "stop") + DONE)
        assert (found.thought, found.text) == (thought, "yes")
    elif len(deltas) == 1:
        body = {"choices": [{"message": {"content": "yes"} | deltas[0], "finish_reason": "stop"}]}
        found = read(CHAT, json.dumps(body).encode(), kind=JSON)
        assert found.thought == thought and found.text in ("yes", "")


@pytest.mark.parametrize(
    "events",
    [
        [typed("response.reasoning_text.delta", delta="h"), typed("response.reasoning_text.delta", delta="m")],
        [typed("response.reasoning_summary_text.delta", delta="hm")],
        [typed("response.reasoning.delta", delta={"text": "hm"})],
        [typed("response.reasoning_text.done", text="hm")],
        [typed("response.reasoning_summary_text.done", summary_index=0, text="hm")],
        [typed("response.reasoning_summary_part.done", summary_index=0, part={"type": "summary_text", "text": "hm"})],
        [typed("response.content_part.done", content_index=0, part={"type": "reasoning_text", "text": "hm"})],
        [
            typed("response.reasoning_summary_text.delta", summary_index=0, delta="hm"),
            typed("response.reasoning_summary_text.done", summary_index=0, text="hm"),
            typed("response.reasoning_summary_part.done", summary_index=0, part={"text": "hm"}),
        ],
        [typed("response.output_item.done", output_index=0, item={"type": "reasoning", "summary": [{"text": "hm"}]})],
        [typed("response.output_item.done", output_index=0, item={"type": "reasoning", "content": [{"text": "hm"}]})],
    ],
)
def test_reasoning_of_the_responses_api(events: list[bytes]) -> None:
    """In pieces, or with the item; what the last event repeats is left out."""
    item = {"type": "reasoning", "summary": [{"text": "hm"}]}
    message = {"type": "message", "content": [{"text": "yes"}]}
    end = typed("response.completed", response={"status": "completed", "output": [item, message]})
    found = read(RESPONSES, b"".join(events) + RESPONSES.text("yes") + end)
    assert (found.thought, found.text) == ("hm", "yes")
    assert (read(RESPONSES, end).thought, read(RESPONSES, end).text) == ("hm", "yes")


def test_thinking_without_its_beginning_or_signature() -> None:
    """It is shown, and isn't sent back: the API takes only what it has signed."""
    body = typed("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm"}) + MESSAGES.text(
        "yes"
    )
    found = read(MESSAGES, body + MESSAGES.almost + MESSAGES.end)
    assert (found.thought, found.text, found.pieces[-1].provider_data) == ("hm", "yes", None)


def test_thinking_twice_at_one_index() -> None:
    """A proxy that numbers all blocks with 0: both are kept, each with its signature."""

    def thinking(text: str, signature: str) -> bytes:
        start = {"type": "thinking", "thinking": text, "signature": signature}
        return typed("content_block_start", index=0, content_block=start)

    found = read(
        MESSAGES, thinking("a", "s") + thinking("b", "t") + MESSAGES.text("yes") + MESSAGES.almost + MESSAGES.end
    )
    blocks = [{"type": "thinking", "thinking": t, "signature": s} for t, s in (("a", "s"), ("b", "t"))]
    assert found.pieces[-1].provider_data == {"anthropic": blocks}


@pytest.mark.parametrize(
    "first",
    [
        delta({"content": "<think>SECRET</think>"}),
        delta({"content": "<th"}) + delta({"content": "ink>SECRET"}) + delta({"content": "</think>"}),
        delta({"reasoning_content": "SECRET"}),
        delta({"reasoning": {"text": "SECRET"}}),
        delta({"content": [{"type": "thinking", "thinking": "SECRET"}]}),
    ],
)
def test_reasoning_is_not_in_the_next_prompt(first: bytes) -> None:
    """It stands in the output and in the message, under its own name, and isn't sent again."""
    call = {"index": 0, "id": "a", "function": {"name": "now", "arguments": "{}"}}
    bodies = [first + data({"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}) + DONE]
    bodies += [first + delta({"content": "noon"}, "stop") + DONE]
    sent = []

    def now() -> str:
        """Tell the time."""
        return "12:00"

    def script(connection: Connection) -> None:
        while (request := connection.request()) is not None:
            sent.append(json.dumps(request["body"]))
            connection.stream(bodies[len(sent) - 1])

    with serving(script) as server:
        output = Agent(CHAT.model("m", base_url=server.url, api_key=KEY), tools=[now]).run("Hi")
    assert (output.content, output.reasoning_content) == ("noon", "SECRET")
    assert [m.reasoning_content for m in output.messages if m.role == "assistant"] == ["SECRET", "SECRET"]
    assert len(sent) == 2 and "SECRET" not in sent[1]
