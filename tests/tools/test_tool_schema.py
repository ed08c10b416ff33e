"""What a model is told of a tool's parameters, and how its answer becomes arguments."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
import json
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from desist.cancel.token import CancelToken, current_token, use_token
from desist.exceptions import ConfigurationError, ToolError
from desist.strict_schema import say_not_strict
from desist.tools import Function
from desist.tools.docstring import parse_docstring

if TYPE_CHECKING:
    from desist.agent.agent import Agent
    from desist.run import RunContext  # type: ignore[attr-defined,unused-ignore]


class Colour(enum.Enum):
    red = "red"
    blue = "blue"


class Place(pydantic.BaseModel):
    title: str
    zip: int = 0


@dataclasses.dataclass
class Point:
    x: int
    y: int = 2


def function_of(annotation: Any, default: Any = ...) -> Function:
    if default is ...:

        def f(x):  # type: ignore[no-untyped-def]
            return x
    else:

        def f(x=default):  # type: ignore[no-untyped-def]
            return x

    f.__annotations__ = {} if annotation is None else {"x": annotation}
    return Function.from_callable(f)


@pytest.mark.parametrize(
    ("annotation", "schema", "given", "got"),
    [
        (int, {"type": "integer"}, "3", 3),
        (float, {"type": "number"}, 1, 1.0),
        (str, {"type": "string"}, "é", "é"),
        (bool, {"type": "boolean"}, True, True),
        (None, {}, [1], [1]),
        (Any, {}, {"a": 1}, {"a": 1}),
        (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}, None, None),  # noqa: UP045
        (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}, "a", "a"),
        (Literal["a", "b"], {"enum": ["a", "b"], "type": "string"}, "b", "b"),
        (list[int], {"type": "array", "items": {"type": "integer"}}, ["1", 2], [1, 2]),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}, {"a": 1}, {"a": 1}),
        (tuple[int, str], None, [1, "a"], (1, "a")),
        (set[int], None, [1, 1], {1}),
        (datetime.date, {"type": "string", "format": "date"}, "2024-02-29", datetime.date(2024, 2, 29)),
        (Colour, {"$ref": "#/$defs/Colour"}, "red", Colour.red),
        (Place, {"$ref": "#/$defs/Place"}, {"title": "a"}, Place(title="a")),
        (Point, {"$ref": "#/$defs/Point"}, {"x": 1}, Point(1)),
        (list[Place], None, [{"title": "a", "zip": 1}], [Place(title="a", zip=1)]),
        (Annotated[int, pydantic.Field(ge=1, description="n")], {"type": "integer", "minimum": 1, "description": "n"},
         1, 1),
        (Annotated[int, "how many"], {"type": "integer", "description": "how many"}, 1, 1),
    ],
)  # fmt: skip
def test_annotation(annotation: Any, schema: Any, given: Any, got: Any) -> None:
    """Each annotation has the schema a user expects, and the model's value becomes that type."""
    function = function_of(annotation)
    if schema is not None:
        assert function.parameters["properties"]["x"] == schema
    assert function.parameters["required"] == ["x"]
    assert function.parameters["additionalProperties"] is False
    assert function.bind(json.dumps({"x": given})).invoke() == got


def test_titles_go_but_properties_named_title_stay() -> None:
    """Generated titles are noise and go; a property of that name stays."""
    place = function_of(Place).parameters["$defs"]["Place"]
    assert place["properties"]["title"] == {"type": "string"}
    assert "title" not in place


@pytest.mark.parametrize(
    ("annotation", "default", "shown"),
    [(int, 3, 3), (Colour, Colour.red, "red"), (Point, Point(1), {"x": 1, "y": 2}), (None, None, None)],
)
def test_default(annotation: Any, default: Any, shown: Any) -> None:
    """A default is shown as JSON, makes the parameter optional, and reaches the function as it is."""
    function = function_of(annotation, default)
    assert function.parameters["properties"]["x"]["default"] == shown
    assert "required" not in function.parameters
    assert function.bind("{}").invoke() == default


def test_null_means_the_default_where_null_is_no_value() -> None:
    """Models write null for "not given": it takes the default, unless None is a value of the parameter."""
    assert function_of(int, 3).bind('{"x": null}').invoke() == 3
    assert function_of(Optional[int], 3).bind('{"x": null}').invoke() is None  # noqa: UP045
    with pytest.raises(ToolError, match="argument 'x'"):
        function_of(int).bind('{"x": null}')


def test_field_as_default() -> None:
    """`= Field(...)` describes and constrains the parameter, and its default is used."""

    def f(n: int = pydantic.Field(4, ge=1, description="d"), m: int = pydantic.Field(description="m")) -> int:
        return n * m

    function = Function.from_callable(f)
    assert function.parameters["properties"]["n"] == {"type": "integer", "minimum": 1, "description": "d", "default": 4}
    assert function.parameters["required"] == ["m"]
    assert function.bind({"m": 2}).invoke() == 8


def google(query: str, n: int = 5) -> None:
    """Search a thing.

    More words.

    Args:
        query (str): What to look for,
            in words.
        n: How many: at most.

    Returns:
        Nothing.
    """


def numpy(query: str, n: int = 5) -> None:
    """Search a thing.

    More words.

    Parameters
    ----------
    query : str
        What to look for,
        in words.
    n : int, optional
        How many: at most.

    Returns
    -------
    None
    """


def sphinx(query: str, n: int = 5) -> None:
    """Search a thing.

    More words.

    :param query: What to look for,
        in words.
    :param int n: How many: at most.
    :returns: Nothing.
    """


@pytest.mark.parametrize("function", [google, numpy, sphinx])
def test_docstring_styles(function: Any) -> None:
    """All three styles give the description and those of the parameters."""
    definition = Function.from_callable(function).definition()["function"]
    assert definition["description"] == "Search a thing.\n\nMore words."
    properties = definition["parameters"]["properties"]
    assert properties["query"]["description"] == "What to look for, in words."
    assert properties["n"]["description"] == "How many: at most."


@pytest.mark.parametrize(
    ("docstring", "description", "parameters"),
    [
        ("Do.\n\nArgs:\n    a: An a.\n\nRaises:\n    KeyError if there is none.", "Do.", {"a": "An a."}),
        ("Return a\n:class:`list` of things.\n\n:param a: An a.", "Return a\n:class:`list` of things.", {"a": "An a."}),
        ("Do.\n\nExample:\n    do(1)", "Do.\n\nExample:\n    do(1)", {}),
        ("Do.\n\nParameters\n----------\na, b : int\n    Both.", "Do.", {"a": "Both.", "b": "Both."}),
        ("Do.\n\nArgs:\n    a and no colon", "Do.\n\nArgs:\n    a and no colon", {}),
    ],
)
def test_text_of_docstrings_is_not_lost(docstring: str, description: str, parameters: dict[str, str]) -> None:
    """What stands in no section, or in one that can't be read, is part of the description."""
    found = parse_docstring(docstring)
    assert (found.description, found.parameters) == (description, parameters)


@settings(deadline=None)
@given(st.text(alphabet="abc:-_ \n\t()*Args Parameters:param", max_size=200))
def test_any_docstring_is_read(text: str) -> None:
    """No docstring makes reading fail."""

    def f(a: int) -> None: ...

    f.__doc__ = text
    Function.from_callable(f).check()


def injected(
    query: str,
    agent: Agent,
    session_state: dict[str, Any],
    ctx: RunContext,
    stop: CancelToken | None = None,
    dependencies: dict[str, Any] | None = None,
) -> Any:
    return query, agent, session_state, ctx, stop, dependencies


def test_injected_parameters() -> None:
    """What desist fills in isn't in the schema and can't be passed by a model; types count as names do."""
    function = Function.from_callable(injected)
    assert list(function.parameters["properties"]) == ["query"]
    with pytest.raises(ToolError, match=r"unknown argument 'agent' \(it takes: query\)"):
        function.bind({"query": "q", "agent": 1})
    token = CancelToken()
    with use_token(token):
        call = function.bind({"query": "q"}, {"agent": "A", "run_context": "C", "unused": 1})
    assert call.arguments == {"query": "q"}
    assert call.invoke() == ("q", "A", None, "C", token, None)


def test_current_token_is_injected() -> None:
    """`cancel_token` is the current token, or the one that the agent gives."""
    function = Function.from_callable(lambda cancel_token: cancel_token, name="f")
    with use_token(CancelToken()) as token:
        assert function.bind("").invoke() is current_token() is token
    assert function.bind("", {"cancel_token": 1}).invoke() == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ('{"n": "x"}', "argument 'n': Input should be a valid integer"),
        ('{"n": "x"}', "got 'x'"),
        ("{}", "argument 'n' is missing"),
        ('{"n": 1, "m": 2}', r"unknown argument 'm' \(it takes: n, places\)"),
        ('{"n": 1, "places": [{"title": "a"}, {"zip": 1}]}', r"argument 'places\[1\].title' is missing"),
        ('{"n": 1', "aren't valid JSON"),
        ('{"n": NaN}', "NaN isn't JSON"),
        ("[1]", r"must be a JSON object, got \[1\]"),
        ("[" * 100_000, "aren't valid JSON"),
        ('{"n": "\\ud800"}', "half a surrogate pair"),
        ('{"n": "\ud800"}', "half a surrogate pair"),
        ('{"n": ' + "1" * 5000 + "}", "aren't valid JSON"),
    ],
)
def test_binding_errors_are_for_the_model(arguments: str, message: str) -> None:
    """Each mistake is an error that names the tool and the argument, is short, and is valid Unicode."""

    def f(n: int, places: list[Place] = []) -> None: ...  # noqa: B006

    with pytest.raises(ToolError, match=message) as caught:
        Function.from_callable(f).bind(arguments)
    text = str(caught.value)
    assert text.startswith("tool 'f': ")
    assert len(text) < 500
    text.encode()


@pytest.mark.parametrize("arguments", ["", "  ", "null", "{}", None, {}])
def test_no_arguments(arguments: Any) -> None:
    """Every way in which models say "nothing" is accepted."""
    assert Function.from_callable(lambda: 7, name="f").bind(arguments).invoke() == 7


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(), json_values))
def test_json_round_trip(arguments: dict[str, Any]) -> None:
    """Any JSON object reaches a tool of open parameters unchanged, as text and as a dict."""
    if not arguments.keys().isdisjoint({"self", "agent"}):
        return

    def f(**kwargs: Any) -> Any:
        return kwargs

    function = Function("f", entrypoint=f, parameters={"type": "object"})
    assert function.bind(json.dumps(arguments)).invoke() == arguments
    assert function.bind(arguments).kwargs == arguments


@settings(deadline=None)
@given(st.text(max_size=50))
def test_any_text_binds_or_is_a_tool_error(text: str) -> None:
    """Whatever a model writes, the outcome is a call or a `ToolError`."""
    try:
        Function.from_callable(lambda x=1: x, name="f").bind(text)
    except ToolError:
        pass


def takes_args(*things: int) -> None: ...
def takes_kwargs(**things: int) -> None: ...
def takes_object(x: threading.Lock) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def takes_class(x: CancelTokenish) -> None: ...
def no_annotation(files) -> None: ...  # type: ignore[no-untyped-def]


class CancelTokenish:
    pass


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (takes_args, r"takes \*things"),
        (takes_kwargs, r"takes \*\*kwargs"),
        (takes_object, "'threading.Lock' of 'x' can't be resolved"),
        (takes_class, "parameter 'x' .*CancelTokenish.* has no JSON schema"),
        (no_annotation, "'files' is a reserved name"),
        (max, "no readable signature|takes"),
    ],
)
def test_refused_signatures(function: Any, message: str) -> None:
    """A signature that a model can't fill is refused before a run, with the parameter named."""
    with pytest.raises(ConfigurationError, match=message):
        Function.from_callable(function).check()


def test_awkward_parameter_names() -> None:
    """Names that pydantic models reserve are ordinary parameters."""

    def f(schema: int, model_config: int, _x: int, copy: int = 4, json: str = "j") -> Any:
        return schema, model_config, _x, copy, json

    assert Function.from_callable(f).bind({"schema": 1, "model_config": "2", "_x": 3}).invoke() == (1, 2, 3, 4, "j")


def test_positional_only_and_partial() -> None:
    """Positional-only parameters work, also with a default left out; a partial's bound ones are optional."""

    def f(a: int = 1, b: int = 2, /, c: int = 3) -> tuple[int, int, int]:
        return a, b, c

    assert Function.from_callable(f).bind({"b": 5}).invoke() == (1, 5, 3)
    assert Function.from_callable(f).bind({"c": 5}).invoke() == (1, 2, 5)
    assert Function.from_callable(math.sqrt).bind({"x": 4}).invoke() == 2
    partial = Function.from_callable(functools.partial(google, n=7))
    assert partial.name == "google"
    assert partial.parameters["properties"]["n"]["default"] == 7
    assert partial.description.startswith("Search a thing.")


def test_strict_schema() -> None:
    """Strict mode closes every object and requires every property, with null for what has a default."""

    def f(place: Place, n: int = 3) -> int:
        return n

    function = Function.from_callable(f, strict=True)
    definition = function.definition()["function"]
    assert definition["strict"] is True
    schema = definition["parameters"]
    assert schema["required"] == ["place", "n"]
    assert schema["properties"]["n"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    place = schema["$defs"]["Place"]
    assert place["required"] == ["title", "zip"]
    assert place["additionalProperties"] is False
    assert function.bind({"place": {"title": "a", "zip": 1}, "n": None}).invoke() == 3


@pytest.mark.parametrize("annotation", [dict[str, int], Any, list[Any]])
def test_strict_is_off_for_what_it_cannot_say(annotation: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Free keys and untyped values can't be strict: the plain schema is sent, and why is said once."""
    say_not_strict.cache_clear()
    function = function_of(annotation)
    function.strict = True
    for _ in range(2):
        function.check()
    described = function.definition()["function"]
    assert described["strict"] is False
    assert described["parameters"] == function.parameters
    assert ["the tool f.x: a" in record.getMessage() for record in caplog.records] == [True]
