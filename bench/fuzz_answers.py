"""Fuzz the readers of what models write: structured answers and the arguments of tools.

`python -m bench.fuzz_answers --inputs 1000000` tries as many inputs of a seeded generator; the tests do the same checks
with the strategies here. A reader must neither crash nor hang on any text, and must lose nothing that is valid.
"""

from __future__ import annotations

import json
import sys
from random import Random
from typing import Any

import pydantic
from hypothesis import strategies as st

from bench.fuzz import fuzz, options
from bench.random_answers import arguments, broken_text, surrounded_answer
from desist.agent.structured_output import parse_answer
from desist.exceptions import ModelResponseError, ToolError
from desist.tools.function import Function
from desist.value_type import ValueType

__all__ = ["broken_texts", "check_answer", "check_arguments", "check_text", "encoded_arguments", "surrounded_answers"]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
#: Words that hold no value and no mark of one.
words = st.text(alphabet="abcdefgh .,:!?\n'()*#-", max_size=30)
thoughts = st.builds(
    "<{0}>{1}</{0}>".format,
    st.sampled_from(["think", "THINK", "thinking", "reasoning"]),
    words | st.just('{"a": 1}'),
)
fences = st.sampled_from(["{}", "```json\n{}\n```", "```JSON\n{}\n```", "```\n{}\n```", "~~~json\n{}\n~~~", "```{}```"])
#: An object or a list, and a text with it inside.
surrounded_answers = st.tuples(
    json_values.filter(lambda value: isinstance(value, dict | list)),
    st.sampled_from(["", "\ufeff", "\ufeff\n"]),
    st.lists(words | thoughts, max_size=3).map(" ".join),
    fences,
    words,
    st.booleans(),
)
_any_json = ValueType({}, "output_schema=")
_object_or_list = ValueType({"type": ["object", "array"]}, "output_schema=")
_marks = [*'{}[]":,\\<1a\n\ufeff', "```", "~~~", "json", "<think>", "</think>", "null"]
broken_texts = st.text(max_size=60) | st.lists(st.sampled_from(_marks), max_size=60).map("".join)


def check_answer(case: tuple[Any, ...]) -> None:
    """Read an answer with things around it; it must be the value that was written."""
    value, begin, before, fence, after, escaped = case
    text = begin + before + fence.replace("{}", json.dumps(value, ensure_ascii=escaped)) + after
    found = parse_answer(_object_or_list, text)
    expected = value["result"] if isinstance(value, dict) and value.keys() == {"result"} else value
    if not isinstance(expected, dict | list):
        expected = value
    assert found == expected, (text, found)


class _Inner(pydantic.BaseModel):
    name: str
    tags: list[str] = []


def _tool(text: str, inner: _Inner, more: list[_Inner] | None = None, free: dict[str, Any] = {}) -> Any:  # noqa: B006
    return text, inner, more, free


_checked = Function(entrypoint=_tool)
_inner = st.fixed_dictionaries({"name": st.text(max_size=9), "tags": st.lists(st.text(max_size=5), max_size=3)})
#: Valid arguments, and how often each of the objects and arrays in them is encoded as text.
encoded_arguments = st.tuples(
    st.fixed_dictionaries(
        {"text": st.text(max_size=9), "inner": _inner, "more": st.lists(_inner, max_size=2)},
        optional={"free": st.dictionaries(st.text(max_size=5), json_values, max_size=3)},
    ),
    st.lists(st.integers(0, 2), min_size=5, max_size=5),
)


def check_arguments(case: tuple[dict[str, Any], list[int]]) -> None:
    """Bind arguments of which objects and arrays are encoded; the tool must get the values."""
    arguments, (whole, *times) = case
    sent: Any = dict(arguments)
    sent["inner"] = {**sent["inner"], "tags": _encoded(sent["inner"]["tags"], times[0])}
    for name, count in zip(("inner", "more", "free"), times[1:], strict=True):
        if name in sent:
            sent[name] = _encoded(sent[name], count)
    got = _checked.bind(_encoded(sent, whole + 1)).invoke()
    text, inner, more, free = got
    plain = (text, inner.model_dump(), [one.model_dump() for one in more or ()], free)
    assert plain == (arguments["text"], arguments["inner"], arguments["more"], arguments.get("free", {})), sent


def _encoded(value: Any, times: int) -> Any:
    for _ in range(times):
        value = json.dumps(value)
    return value


def check_text(text: str) -> None:
    """Read any text as an answer and as arguments: a value, or the error that is meant for the model."""
    for schema in (_any_json, _object_or_list):
        try:
            parse_answer(schema, text)
        except ModelResponseError:
            pass
    try:
        _checked.bind(text)
    except ToolError:
        pass


def _check(number: int, random: Random) -> str:
    if number % 3 == 0:
        check_answer(surrounded_answer(random))
        return "answers read"
    if number % 3 == 1:
        check_arguments(arguments(random))
        return "arguments read"
    check_text(broken_text(random))
    return "broken texts"


if __name__ == "__main__":
    chosen = options("bench.fuzz_answers", __doc__)
    sys.exit(fuzz(chosen.inputs, chosen.seed, _check))
