"""Structured output: which types are taken, and how the text of an answer is read."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal, NamedTuple

import pydantic
import pytest
from bench.fuzz_answers import check_answer, surrounded_answers
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import TypedDict

from desist import Agent, RunStatus
from desist.agent.structured_output import parse_answer
from desist.exceptions import ConfigurationError, ModelResponseError
from desist.testing import ScriptedModel
from desist.value_type import ValueType


class City(pydantic.BaseModel):
    name: str


@dataclasses.dataclass
class Plain:
    name: str
    born: datetime.date | None = None


class Keys(TypedDict):
    name: str


class Pair(NamedTuple):
    left: int
    right: str


class Colour(enum.Enum):
    red = "red"
    blue = "blue"


OSLO = '{"name": "Oslo"}'
OBJECT = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
ARRAY = {"type": "array", "items": {"$ref": "#/$defs/n"}, "$defs": {"n": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("schema", "text", "content"),
    [
        (City, OSLO, City(name="Oslo")),
        (list[City], f"[{OSLO}]", [City(name="Oslo")]),
        (list[City], f'{{"result": [{OSLO}]}}', [City(name="Oslo")]),
        (City | None, OSLO, City(name="Oslo")),
        (City | None, "null", None),
        (City | None, '{"result": null}', None),
        (int | City, '{"result": 5}', 5),
        (Plain, '{"name": "Oslo", "born": "2024-02-03"}', Plain("Oslo", datetime.date(2024, 2, 3))),
        (Keys, OSLO, {"name": "Oslo"}),
        (Pair, '[1, "x"]', Pair(1, "x")),
        (Colour, '"red"', Colour.red),
        (Colour, "red", Colour.red),
        (Colour, '{"result": "red"}', Colour.red),
        (Literal["a", "b"], "a", "a"),
        (Literal[1, "b"], "1", 1),
        (int, "5", 5),
        (float, "```\n5.5\n```", 5.5),
        (bool, "true", True),
        (str, "plain words", "plain words"),
        (str, '"quoted"', "quoted"),
        (str, '{"result": "inside"}', "inside"),
        (datetime.date, "2024-02-03", datetime.date(2024, 2, 3)),
        (dict, '{"a": 1}', {"a": 1}),
        (dict[str, int], '{"result": 1}', {"result": 1}),
        (dict | list, '{"result": {"a": 1}}', {"a": 1}),
        (tuple[int, str], '[1, "x"]', (1, "x")),
        (set[int], "[1, 1]", {1}),
        (pydantic.RootModel[list[int]], "[1]", pydantic.RootModel[list[int]]([1])),
        (Annotated[int, pydantic.Field(ge=1)], "3", 3),
        (OBJECT, '{"a": "x"}', {"a": "x"}),
        (ARRAY, "[1, 2]", [1, 2]),
        (ARRAY, '{"result": [1, 2]}', [1, 2]),
        ({"type": "json_object"}, 'Here: {"a": 1}', {"a": 1}),
        ({"type": "text"}, "plain", "plain"),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": OBJECT}}, '{"a": "x"}', {"a": "x"}),
        ({"type": "json_schema", "name": "x", "schema": OBJECT}, '{"a": "x"}', {"a": "x"}),
        ({}, "[1]", [1]),
        (Iterable[int], "[1, 2]", [1, 2]),
        (Literal["a", "b"], "`a`", "a"),
        (Literal["a", "b"], "**a**.", "a"),
        (int, "5.", 5),
        (Colour, "'red'", Colour.red),
        (str, "*plain*", "*plain*"),
        ({"name": "x", "strict": True, "schema": OBJECT}, '{"a": "x"}', {"a": "x"}),
    ],
    ids=str,
)
def test_output_schema_takes_what_a_type_adapter_takes(schema: Any, text: str, content: Any) -> None:
    """`output.content` is a value of the type, with and without the object that is requested around it."""
    output = Agent(ScriptedModel([text]), output_schema=schema).run("x")
    assert (output.status, output.error) == (RunStatus.completed, None)
    assert output.content == content and type(output.content) is type(content)
    assert output.content_type == type(content).__name__


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (OBJECT, "[1]"),
        (OBJECT, '{"a": 1}'),
        (OBJECT, "{}"),
        (OBJECT, "words"),
        (ARRAY, '["x"]'),
        ({"type": "json_object"}, "[1]"),
        ({"type": "number"}, "NaN"),
        (City, "[" * 100_000),
        (OBJECT, "[" * 100_000),
        (City, '{"name": ' * 10_000),
        (City, ""),
        (City, f"<think>{OSLO}"),
        (City, f"<think>{OSLO}</think> no answer"),
        (City, f"{OSLO}</think> no answer"),
        (City, f"[{OSLO}]"),
        (int, "five"),
        (Iterable[int], '[1, "x"]'),
        ({"name": "x", "schema": OBJECT}, '{"a": 1}'),
        (Colour, "green"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_answer_that_does_not_fit_is_an_error(schema: Any, text: str) -> None:
    """What doesn't fit is a retryable error that quotes the answer; a thought is never taken for an answer."""
    with pytest.raises(ModelResponseError, match="the answer isn't a") as found:
        parse_answer(ValueType(schema, "output_schema="), text)
    assert found.value.retryable


@pytest.mark.parametrize(
    "schema",
    [
        City(name="x"),
        Plain("x"),
        5,
        "City",
        [City],
        len,
        open,
        {"type": "objekt"},
        {"type": "object", "properties": []},
        {"$ref": "#/$defs/missing"},
        {"$ref": "https://example.com/schema.json"},
        {"type": "array", "items": {"type": 5}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "objekt"}}},
    ],
    ids=lambda schema: str(schema)[:40],
)
def test_what_cannot_be_asked_for_is_refused_with_the_agent(schema: Any) -> None:
    """Before any request is paid for; the message names the parameter and the agent."""
    with pytest.raises(ConfigurationError, match="output_schema= of agent 'A' "):
        Agent(ScriptedModel(["x"]), name="A", output_schema=schema)


def test_a_changed_output_schema_is_read_again() -> None:
    """The attribute may be set later; a value that can't be used is an error before the run."""
    agent = Agent(ScriptedModel(["5"], repeat=True), output_schema=str)
    assert agent.run("x").content == "5"
    agent.output_schema = int
    assert agent.run("x").content == 5
    agent.output_schema = 5
    with pytest.raises(ConfigurationError, match="output_schema="):
        agent.run("x")


FENCE = "`" * 3


@pytest.mark.parametrize(
    "text",
    [
        OSLO,
        f"\ufeff{OSLO}\n",
        f"{FENCE}json\n{OSLO}\n{FENCE}",
        f"{FENCE}JSON\n{OSLO}\n{FENCE}",
        f"{FENCE}Json5\r\n{OSLO}\r\n{FENCE}\r\n",
        f"{FENCE}\n{OSLO}\n{FENCE}",
        f"{FENCE}{OSLO}{FENCE}",
        f"{FENCE} json {OSLO} {FENCE}",
        f"~~~json\n{OSLO}\n~~~",
        f"{FENCE}json\n{OSLO}",
        f"Here it is:\n{FENCE}json\n{OSLO}\n{FENCE}\nAs {{you}} wanted [1].",
        f'Not {{"name": "Rome"}}, but:\n{FENCE}\n{OSLO}\n{FENCE}\nlike {{"name": "..."}}',
        f"{FENCE}python\nx = [1]\n{FENCE}\n{FENCE}json\n{OSLO}\n{FENCE}",
        f"Sure! {OSLO}",
        f"{OSLO}\n\nHope that helps!",
        f"First {{broken: {OSLO}",
        f'{{"name": "Rome"}} no, {OSLO}',
        f"<think>\nhm {{x}}\n</think>\n{OSLO}",
        f'<THINK>{{"name": "Rome"}}</THINK>{OSLO}',
        f"<thinking>x</thinking> <reasoning>y</reasoning> {FENCE}\n{OSLO}\n{FENCE}",
        f'maybe {{"name": "Rome"}}</think>{OSLO}',
        f'\ufeff<think>a</think>\ufeff{OSLO}\n<think>{{"name": "Rome"}}</think>',
        json.dumps(OSLO),
        f"words <think> and {OSLO}",
    ],
)
def test_what_models_put_around_an_answer(text: str) -> None:
    """Fences in any case, words, thoughts and byte order marks are read past."""
    assert parse_answer(ValueType(City, "output_schema="), text) == City(name="Oslo")


@pytest.mark.parametrize("name", [f"a {FENCE} b", "<think>x</think>", "</think>", "{", "\ufeff", "line\nend", "[1]"])
def test_an_answer_may_contain_what_is_read_past(name: str) -> None:
    """A name with a fence, a tag or a brace in it is kept, also with words around the JSON."""
    for text in (json.dumps({"name": name}), f"So:\n{FENCE}json\n{json.dumps({'name': name})}\n{FENCE}"):
        assert parse_answer(ValueType(City, "output_schema="), text) == City(name=name)


def test_line_ends_in_a_string_are_read() -> None:
    """Some models write them as they are."""
    assert parse_answer(ValueType(City, "output_schema="), '{"name": "a\nb"}') == City(name="a\nb")


@given(surrounded_answers)
def test_no_valid_answer_is_lost(case: Any) -> None:
    """Whatever value, and whatever of the listed things is around it: it is read as it was written."""
    check_answer(case)


@given(st.text() | st.text(alphabet='{}[]":,`~<>/think1 \n\\'))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text crashes the reader."""
    for schema in (City, OBJECT, list[int], Colour):
        try:
            parse_answer(ValueType(schema, "output_schema="), text)
        except ModelResponseError:
            pass
