"""Which call a piece belongs to, in streams as odd servers send them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from http_dialects import typed
from wire import CHAT, DONE, JSON, MESSAGES, RESPONSES, data, delta, piece, read

OSLO, ROME = '{"city":"Oslo"}', '{"city":"Rome"}'
BOTH = [("weather", OSLO), ("weather", ROME)]
MIXED = [("weather", OSLO), ("now", "{}")]
ONE = [("weather", OSLO)]
HALVES = ('{"city":', '"Oslo"}')
NAMES = ("weather", "now", "get_weather")


def chunks(*of_calls: list[dict[str, Any]]) -> bytes:
    return b"".join(delta({"tool_calls": calls}) for calls in of_calls) + delta({}, "tool_calls") + DONE


#: The pieces of each chunk, and the calls that they are.
CHAT_CALLS = {
    "as documented": (
        [[piece(0, "a", "weather", "")], [piece(0, arguments=HALVES[0])], [piece(0, arguments=HALVES[1])]],
        ONE,
    ),
    "two, as documented": ([[piece(0, "a", "weather", OSLO)], [piece(1, "b", "now", "{}")]], MIXED),
    "interleaved": (
        [
            [piece(0, "a", "weather", HALVES[0])],
            [piece(1, "b", "now", "{")],
            [piece(0, arguments=HALVES[1])],
            [piece(1, arguments="}")],
        ],
        MIXED,
    ),
    "interleaved, one chunk": (
        [
            [piece(0, "a", "weather", ""), piece(1, "b", "now", "")],
            [piece(1, arguments="{}"), piece(0, arguments=OSLO)],
        ],
        MIXED,
    ),
    "index 0 for all, whole": ([[piece(0, "a", "weather", OSLO)], [piece(0, "b", "weather", ROME)]], BOTH),
    "index 0 for all, one chunk": ([[piece(0, "a", "weather", OSLO), piece(0, "b", "weather", ROME)]], BOTH),
    "index 0 for all, in pieces": (
        [
            [piece(0, "a", "weather", "")],
            [piece(0, arguments=HALVES[0])],
            [piece(0, arguments=HALVES[1])],
            [piece(0, "b", "weather", "")],
            [piece(0, arguments='{"city":')],
            [piece(0, arguments='"Rome"}')],
        ],
        BOTH,
    ),
    "index 0 for all, interleaved by id": (
        [
            [piece(0, "a", "weather", HALVES[0])],
            [piece(0, "b", "now", "")],
            [piece(0, "a", arguments=HALVES[1])],
            [piece(0, "b", arguments="{}")],
        ],
        MIXED,
    ),
    "index 0 for all, no ids": ([[piece(0, None, "weather", OSLO)], [piece(0, None, "now", "{}")]], MIXED),
    "index 0 for all, no ids, one chunk": ([[piece(0, None, "weather", OSLO), piece(0, None, "now", "{}")]], MIXED),
    "index 0 for all, the id after the name": (
        [[piece(0, "a", "weather", OSLO)], [piece(0, "b")], [piece(0, None, "now", "{}")]],
        MIXED,
    ),
    "a new id with a name, while the arguments aren't whole": (
        [[piece(0, "a", "weather", '{"ci')], [piece(0, "b", "now", "{}")]],
        [("weather", '{"ci'), ("now", "{}")],
    ),
    "no index": ([[piece(None, "a", "weather", OSLO)], [piece(None, "b", "now", "{}")]], MIXED),
    "no index, in pieces": (
        [[piece(None, "a", "weather", HALVES[0])], [piece(arguments=HALVES[1])], [piece(None, "b", "now", "{}")]],
        MIXED,
    ),
    "no index, no id": ([[piece(None, None, "weather", OSLO)], [piece(None, None, "now", "{}")]], MIXED),
    "no index, no id, one chunk": ([[piece(None, None, "weather", OSLO), piece(None, None, "now", "{}")]], MIXED),
    "no index, no id, no arguments, one chunk": (
        [[piece(None, None, "now", ""), piece(None, None, "now", "")]],
        [("now", ""), ("now", "")],
    ),
    "no index, one id for all": ([[piece(None, "s", "weather", OSLO)], [piece(None, "s", "now", "{}")]], MIXED),
    "no index, one id for all, one tool": (
        [[piece(None, "s", "weather", OSLO)], [piece(None, "s", "weather", ROME)]],
        BOTH,
    ),
    "one id for all, indexes differ": ([[piece(0, "s", "weather", OSLO)], [piece(1, "s", "weather", ROME)]], BOTH),
    "one id for all, indexes differ, in pieces": (
        [
            [piece(0, "s", "weather", ""), piece(1, "s", "now", "")],
            [piece(0, "s", arguments=OSLO)],
            [piece(1, "s", arguments="{}")],
        ],
        MIXED,
    ),
    "the same call again at the end": (
        [[piece(0, "a", "weather", HALVES[0])], [piece(0, "a", None, HALVES[1])], [piece(0, "a", "weather", OSLO)]],
        ONE,
    ),
    "the name in every piece": ([[piece(0, "a", "weather", part)] for part in ("", *HALVES, "")], ONE),
    "the name in every piece, ids only first": (
        [[piece(0, "a", "weather", "")], *[[piece(0, None, "weather", part)] for part in HALVES]],
        ONE,
    ),
    "the name in every piece, no index": ([[piece(None, "a", "weather", part)] for part in HALVES], ONE),
    "the name in every piece, no index, no id": ([[piece(None, None, "weather", part)] for part in HALVES], ONE),
    "the name in every piece, other ids": (
        [[piece(0, str(n), "weather", part)] for n, part in enumerate(HALVES)],
        ONE,
    ),
    "the name in every piece, growing indexes": (
        [[piece(n, "a", "weather", part)] for n, part in enumerate(("", *HALVES, ""))],
        ONE,
    ),
    "the name in every piece, two calls": (
        [
            *[[piece(0, "a", "weather", part)] for part in HALVES],
            *[[piece(1, "b", "now", part)] for part in ("{", "}")],
        ],
        MIXED,
    ),
    "the name in every piece, growing": (
        [[piece(0, "a", "get_", "")], [piece(0, "a", "get_wea", "")], [piece(0, "a", "get_weather", OSLO)]],
        [("get_weather", OSLO)],
    ),
    "the name in two pieces": (
        [[piece(0, "a", "get_", "")], [piece(0, None, "weather", "")], [piece(0, arguments=OSLO)]],
        [("get_weather", OSLO)],
    ),
    "the name in two pieces, no index": (
        [[piece(None, "a", "get_")], [piece(None, None, "weather")], [piece(arguments=OSLO)]],
        [("get_weather", OSLO)],
    ),
    "the name letter by letter": (
        [[piece(0, "a", "w")], *[[piece(0, None, letter)] for letter in "eather"], [piece(0, None, None, OSLO)]],
        ONE,
    ),
    "the name in three pieces, the last with the arguments": (
        [[piece(0, "a", "get")], [piece(0, "a", "_wea")], [piece(0, "a", "ther", OSLO)]],
        [("get_weather", OSLO)],
    ),
    "the name after the id": ([[piece(0, "a")], [piece(0, None, "weather")], [piece(0, arguments=OSLO)]], ONE),
    "the name after the arguments": ([[piece(0, "a", None, OSLO)], [piece(0, "a", "weather", "")]], ONE),
    "other ids with each piece": (
        [[piece(0, "a", "weather", "")], [piece(0, "b", None, HALVES[0])], [piece(0, "c", None, HALVES[1])]],
        ONE,
    ),
    "other ids with each piece, no index": (
        [[piece(None, "a", "weather", "")], [piece(None, "b", None, HALVES[0])], [piece(None, "c", None, HALVES[1])]],
        ONE,
    ),
    "other ids with each piece, the name in each": (
        [[piece(0, "a", "weather", "")], *[[piece(0, str(n), "weather", half)] for n, half in enumerate(HALVES)]],
        ONE,
    ),
    "other ids with each piece, the name in each, two calls": (
        [
            *[[piece(None, f"a{n}", "weather", part)] for n, part in enumerate(("", *HALVES))],
            *[[piece(None, f"b{n}", "now", part)] for n, part in enumerate(("{", "}"))],
        ],
        MIXED,
    ),
    "other ids and indexes with each piece": (
        [[piece(n, str(n), "weather" if n == 0 else None, part)] for n, part in enumerate(HALVES)],
        ONE,
    ),
    "an empty id later": ([[piece(0, "a", "weather", HALVES[0])], [piece(0, "", None, HALVES[1])]], ONE),
    "an empty name later": ([[piece(0, "a", "weather", HALVES[0])], [piece(0, None, "", HALVES[1])]], ONE),
    "an index that is text": ([[piece("0", "a", "weather", OSLO)], [piece("1", "b", "now", "{}")]], MIXED),
    "an index that is a float": ([[piece(0.0, "a", "weather", OSLO)], [piece(1.0, "b", "now", "{}")]], MIXED),
    "an index that is nothing of the kind": (
        [[piece(["x"], "a", "weather", OSLO)], [piece({}, "b", "now", "{}")]],
        MIXED,
    ),
    "indexes from 1": ([[piece(1, "a", "weather", OSLO)], [piece(2, "b", "now", "{}")]], MIXED),
    "ids that are numbers": ([[piece(0, 17, "weather", OSLO)], [piece(0, 18, "now", "{}")]], MIXED),
    "arguments as an object": ([[piece(0, "a", "weather", {"city": "Oslo"})]], [("weather", '{"city": "Oslo"}')]),
    "arguments as an object, twice": (
        [[piece(0, "a", "weather", {})], [piece(0, "a", "weather", {"city": "Oslo"})]],
        [("weather", '{"city": "Oslo"}')],
    ),
    "null as text, no ids": (
        [[piece(0, None, "now", "null")], [piece(0, None, "weather", OSLO)]],
        [("now", "null"), *ONE],
    ),
    "arguments encoded twice": (
        [[piece(0, None, "weather", json.dumps(OSLO))], [piece(0, None, "now", json.dumps("{}"))]],
        [("weather", json.dumps(OSLO)), ("now", json.dumps("{}"))],
    ),
    "arguments null": ([[{"index": 0, "id": "a", "function": {"name": "now", "arguments": None}}]], [("now", "")]),
    "{} before the arguments": (
        [[piece(0, "a", "weather", "{}")], [piece(0, arguments=HALVES[0])], [piece(0, arguments=HALVES[1])]],
        ONE,
    ),
    "arguments that grow": (
        [[piece(0, "a", "weather", '{"ci')], [piece(0, "a", None, '{"city":"Os')], [piece(0, "a", None, OSLO)]],
        ONE,
    ),
    "an object in an object, as it comes": (
        [[piece(0, "a", "weather", '{"a":')], [piece(0, arguments='{"a":1}')], [piece(0, arguments="}")]],
        [("weather", '{"a":{"a":1}}')],
    ),
    "blanks after the arguments": (
        [[piece(0, "a", "weather", OSLO)], [piece(0, arguments="\n")]],
        [("weather", OSLO + "\n")],
    ),
    "braces in a text": (
        [[piece(0, "a", "weather", '{"city":"}')], [piece(0, "a", "weather", '{"}')], [piece(0, "b", "now", "{}")]],
        [("weather", '{"city":"}{"}'), ("now", "{}")],
    ),
    "no `function` around": ([[{"index": 0, "id": "a", "name": "weather", "arguments": OSLO}]], ONE),
    "one call in place of a list": ([piece(0, "a", "weather", OSLO)], ONE),
    "empty calls between": (
        [[], [{}], [piece(0, "a", "weather", HALVES[0])], [{}], [piece(0, arguments=HALVES[1])]],
        ONE,
    ),
    "null calls": ([None, [None], [piece(0, "a", "weather", OSLO)]], ONE),
}


@pytest.mark.parametrize("name", CHAT_CALLS)
def test_pieces_of_chat_completions(name: str) -> None:
    """Each call comes out once and whole, however the server says which piece is whose."""
    pieces, expected = CHAT_CALLS[name]
    found = read(CHAT, chunks(*pieces), names=NAMES)
    assert found.calls == expected
    assert found.reason == "tool_calls"


@pytest.mark.parametrize("name", list(CHAT_CALLS))
def test_without_the_names_of_the_tools(name: str) -> None:
    """A model that isn't told the tools' names, as for a recorded stream, reads the same."""
    pieces, expected = CHAT_CALLS[name]
    assert read(CHAT, chunks(*pieces)).calls == expected


def test_no_arguments_and_no_ids() -> None:
    """Two tools called without arguments, with nothing to tell them apart but their names: both are found."""
    calls = [piece(0, None, "now", ""), piece(0, None, "weather", "")]
    assert read(CHAT, chunks(*[[call] for call in calls]), names=NAMES).calls == [("now", ""), ("weather", "")]


def test_ids_are_kept() -> None:
    """A call has the first id that it was given; without one the agent makes one."""
    found = read(
        CHAT,
        chunks([piece(0, "a", "weather", HALVES[0])], [piece(0, "b", None, HALVES[1])], [piece(0, None, "now", "{}")]),
    )
    assert [call.id for call in found.pieces[-1].tool_calls or ()] == ["a", None]


def test_a_function_call_of_an_older_server() -> None:
    """`function_call` is a call without an id."""
    body = delta({"function_call": {"name": "weather", "arguments": HALVES[0]}}) + delta(
        {"function_call": {"arguments": HALVES[1]}}, "function_call"
    )
    found = read(CHAT, body + DONE)
    assert (found.calls, found.reason) == (ONE, "tool_calls")


@pytest.mark.parametrize(
    "calls",
    [
        [piece(0, "a", "weather", OSLO), piece(0, "b", "weather", ROME)],
        [piece(None, None, "weather", OSLO), piece(None, None, "weather", ROME)],
        [piece(None, "s", "weather", OSLO), piece(None, "s", "weather", ROME)],
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
def test_calls_of_a_whole_message(calls: list[Any], streamed: bool) -> None:
    """Each entry of a message that comes whole is a call, in one document or in an event."""
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    body: Any = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    found = read(CHAT, data(body) + DONE) if streamed else read(CHAT, json.dumps(body).encode(), kind=JSON)
    assert found.calls == BOTH


SAID = delta({"content": "Let me see."})


@pytest.mark.parametrize(
    "before",
    [
        delta({"tool_calls": [piece(0, "a", "weather", OSLO)]}) + delta({"tool_calls": [piece(1, "b", "now", "{}")]}),
        delta({"tool_calls": [piece(0, "a", "weather", HALVES[0])]})
        + delta({"tool_calls": [piece(0, None, None, HALVES[1])]}),
        SAID + delta({"tool_calls": [piece(0, "a", "weather", "")]}),
        SAID,
        b"",
    ],
)
@pytest.mark.parametrize("ids", [("a", "b"), (None, None), ("x", "y")])
def test_a_message_that_repeats_calls(ids: tuple[Any, Any], before: bytes) -> None:
    """A last event with the whole message adds what is missing: no call is made twice, and none is lost."""
    calls = [piece(0, ids[0], "weather", OSLO), piece(1, ids[1], "now", "{}")]
    message = {"role": "assistant", "content": "Let me see.", "tool_calls": calls}
    last = data({"choices": [{"index": 0, "delta": {}, "message": message, "finish_reason": "tool_calls"}]})
    found = read(CHAT, before + last + DONE)
    assert (found.calls, found.text) == (MIXED, "Let me see.")


def test_the_same_message_twice() -> None:
    """A message with calls that is sent again holds the same calls."""
    message = {"tool_calls": [piece(0, "a", "weather", OSLO), piece(1, "b", "now", "{}")]}
    body = data({"choices": [{"message": message, "finish_reason": "tool_calls"}]})
    assert read(CHAT, body * 2 + DONE).calls == MIXED


def test_an_answer_in_several_choices() -> None:
    """Text and calls of one answer, each in a choice of its own; other answers are left out."""
    choices = [
        {"index": 0, "delta": {"content": "x"}},
        {"index": 1, "delta": {"content": "another answer"}},
        {"index": 0, "delta": {"tool_calls": [piece(0, "a", "weather", OSLO)]}, "finish_reason": "tool_calls"},
    ]
    found = read(CHAT, data({"choices": choices}) + DONE)
    assert (found.text, found.calls, found.reason) == ("x", ONE, "tool_calls")
    messages = [{"message": {"content": "x"}}, {"message": {"tool_calls": [piece(0, "a", "weather", OSLO)]}}]
    found = read(CHAT, json.dumps({"choices": messages}).encode(), kind=JSON)
    assert (found.text, found.calls) == ("x", ONE)


def item(number: int, name: str, arguments: Any = "", **more: Any) -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": f"fc_{number}",
        "call_id": f"c{number}",
        "name": name,
        "arguments": arguments,
    } | more


def added(index: Any, **fields: Any) -> bytes:
    return typed("response.output_item.added", output_index=index, item=fields)


def done(index: Any, **fields: Any) -> bytes:
    return typed("response.output_item.done", output_index=index, item=fields)


def arguments(index: Any, text: Any, **more: Any) -> bytes:
    return typed("response.function_call_arguments.delta", output_index=index, delta=text, **more)


def completed(*items: Any, **more: Any) -> bytes:
    return typed("response.completed", response={"status": "completed", "output": list(items), **more})


RESPONSES_CALLS = {
    "as documented": (
        [
            added(0, **item(1, "weather")),
            *[arguments(0, half, item_id="fc_1") for half in HALVES],
            typed("response.function_call_arguments.done", output_index=0, item_id="fc_1", arguments=OSLO),
            done(0, **item(1, "weather", OSLO)),
            completed(item(1, "weather", OSLO)),
        ],
        ONE,
    ),
    "index 0 for all": (
        [
            added(0, **item(1, "weather")),
            arguments(0, OSLO, item_id="fc_1"),
            added(0, **item(2, "now")),
            arguments(0, "{}", item_id="fc_2"),
            done(0, **item(1, "weather", OSLO)),
            done(0, **item(2, "now", "{}")),
            completed(),
        ],
        MIXED,
    ),
    "index 0 for all, without ids of items": (
        [
            added(0, **item(1, "weather", id=None)),
            arguments(0, OSLO),
            added(0, **item(2, "now", id=None)),
            arguments(0, "{}"),
            completed(),
        ],
        MIXED,
    ),
    "no index": (
        [added(None, **item(1, "weather")), arguments(None, HALVES[0]), arguments(None, HALVES[1]), completed()],
        ONE,
    ),
    "interleaved": (
        [
            added(0, **item(1, "weather")),
            added(1, **item(2, "now")),
            arguments(0, HALVES[0]),
            arguments(1, "{}"),
            arguments(0, HALVES[1]),
            completed(),
        ],
        MIXED,
    ),
    "only done": ([done(0, **item(1, "weather", OSLO)), done(1, **item(2, "now", "{}")), completed()], MIXED),
    "only done, index 0 for all": (
        [done(0, **item(1, "weather", OSLO)), done(0, **item(2, "weather", ROME)), completed()],
        BOTH,
    ),
    "only done, one id for all": (
        [done(0, **item(1, "weather", OSLO)), done(1, **item(1, "now", "{}")), completed()],
        MIXED,
    ),
    "only at the end": ([completed(item(1, "weather", OSLO), item(2, "now", "{}"))], MIXED),
    "one only at the end": (
        [added(0, **item(1, "weather")), completed(item(1, "weather", OSLO), item(2, "now", "{}"))],
        MIXED,
    ),
    "begun twice": (
        [added(0, **item(1, "weather")), added(0, **item(1, "weather")), arguments(0, OSLO), completed()],
        ONE,
    ),
    "only arguments.done": (
        [
            added(0, **item(1, "weather")),
            typed("response.function_call_arguments.done", output_index=0, item_id="fc_1", arguments=OSLO),
            completed(),
        ],
        ONE,
    ),
    "an object": ([done(0, **item(1, "weather", {"city": "Oslo"})), completed()], [("weather", '{"city": "Oslo"}')]),
    "{} first": (
        [added(0, **item(1, "weather", "{}")), arguments(0, HALVES[0]), arguments(0, HALVES[1]), completed()],
        ONE,
    ),
    "whole at the beginning, and again": (
        [added(0, **item(1, "weather", OSLO)), arguments(0, HALVES[0]), arguments(0, HALVES[1]), completed()],
        ONE,
    ),
    "an id that changes": (
        [
            added(0, **item(1, "weather")),
            arguments(0, OSLO, item_id="x"),
            done(0, **item(3, "weather", OSLO)),
            completed(),
        ],
        ONE,
    ),
    "an index that is text": ([added("0", **item(1, "weather")), arguments("0", OSLO), completed()], ONE),
}


@pytest.mark.parametrize("name", RESPONSES_CALLS)
def test_calls_of_the_responses_api(name: str) -> None:
    """Each call comes out once and whole, whichever events a proxy sends of it."""
    events, expected = RESPONSES_CALLS[name]
    found = read(RESPONSES, b"".join(events), names=NAMES)
    assert (found.calls, found.reason) == (expected, "tool_calls")


def block(index: Any, id: Any, name: str, **more: Any) -> bytes:
    return typed(
        "content_block_start",
        index=index,
        content_block={"type": "tool_use", "id": id, "name": name, "input": {}} | more,
    )


def partial(index: Any, text: Any) -> bytes:
    return typed("content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": text})


MESSAGES_CALLS = {
    "as documented": ([block(0, "a", "weather"), partial(0, HALVES[0]), partial(0, HALVES[1])], ONE),
    "two": ([block(0, "a", "weather"), partial(0, OSLO), block(1, "b", "now")], [("weather", OSLO), ("now", "")]),
    "interleaved": ([block(0, "a", "weather"), block(1, "b", "now"), partial(0, OSLO), partial(1, "{}")], MIXED),
    "index 0 for all": ([block(0, "a", "weather"), partial(0, OSLO), block(0, "b", "now"), partial(0, "{}")], MIXED),
    "no index": (
        [block(None, "a", "weather"), partial(None, OSLO), block(None, "b", "now"), partial(None, "{}")],
        MIXED,
    ),
    "one id for all": ([block(0, "s", "weather"), partial(0, OSLO), block(1, "s", "weather"), partial(1, ROME)], BOTH),
    "no id": ([block(0, None, "weather"), partial(0, OSLO), block(1, None, "now"), partial(1, "{}")], MIXED),
    "begun twice": ([block(0, "a", "weather"), block(0, "a", "weather"), partial(0, OSLO)], ONE),
    "whole at the beginning": ([block(0, "a", "weather", input={"city": "Oslo"})], [("weather", '{"city": "Oslo"}')]),
    "whole at the beginning, and again": (
        [block(0, "a", "weather", input={"city": "Oslo"}), partial(0, HALVES[0]), partial(0, HALVES[1])],
        ONE,
    ),
    "an object in a delta": (
        [block(0, "a", "weather"), partial(0, {"city": "Oslo"})],
        [("weather", '{"city": "Oslo"}')],
    ),
    "input null": ([block(0, "a", "weather", input=None), partial(0, OSLO)], ONE),
    "a call of the provider's own": (
        [
            block(0, "x", "web_search", type="server_tool_use"),
            partial(0, '{"q":1}'),
            block(1, "a", "weather"),
            partial(1, OSLO),
        ],
        ONE,
    ),
}


@pytest.mark.parametrize("name", MESSAGES_CALLS)
def test_calls_of_the_messages_api(name: str) -> None:
    """Each call comes out once and whole; those that the provider makes itself are not taken for ours."""
    events, expected = MESSAGES_CALLS[name]
    end = typed("message_delta", delta={"stop_reason": "tool_use"}) + typed("message_stop")
    found = read(MESSAGES, b"".join(events) + end, names=NAMES)
    assert (found.calls, found.reason) == (expected, "tool_calls")
