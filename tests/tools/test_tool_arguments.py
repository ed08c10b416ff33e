"""Whose a parameter with a reserved name is, JSON texts in place of objects, wrapped functions, odd results."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Optional, Sequence  # noqa: UP035

import pydantic
import pytest
from bench.fuzz_answers import broken_texts, check_arguments, check_text, encoded_arguments
from hypothesis import given
from typing_extensions import TypedDict

from desist import Agent, RunContext, RunStatus, Step, Workflow, tool
from desist.cancel.token import CancelToken
from desist.exceptions import ConfigurationError, ToolError
from desist.testing import Call, Gate, ScriptedModel
from desist.tools.function import Function


class State(TypedDict):
    x: int


class Image(pydantic.BaseModel):
    url: str


class MyAgent(Agent):
    pass


def with_parameter(name: str, annotation: Any) -> Function:
    """Return a tool whose only parameter has this name and annotation; `...` for none."""
    code = f"def f({name}): return {name}"
    names: dict[str, Any] = {}
    exec(code, globals(), names)
    if annotation is not ...:
        names["f"].__annotations__[name] = annotation
    return Function(entrypoint=names["f"])


OURS = [
    ("agent", Agent),
    ("agent", "Agent"),
    ("agent", Agent | None),
    ("agent", Optional[MyAgent]),  # noqa: UP045
    ("agent", Annotated[Agent, "the one"]),
    ("run_context", RunContext),
    ("run_context", Any),
    ("run_context", ...),
    ("anything", "RunContext | None"),
    ("cancel_token", CancelToken),
    ("cancel_token", ...),
    ("session_state", dict),
    ("session_state", dict[str, Any]),
    ("session_state", "dict[str, Any] | None"),
    ("session_state", Mapping[str, Any]),
    ("session_state", ...),
    ("dependencies", dict[str, Any]),
    ("dependencies", dict | None),
    ("agent", RunContext),  # a type of ours counts whatever the name
]
THE_MODELS = [
    ("agent", str),
    ("agent", Annotated[str, "the support agent"]),
    ("agent", Literal["a", "b"]),
    ("agent", Image),
    ("agent", str | None),
    ("team", Optional[str]),  # noqa: UP045
    ("team", dict[str, Any]),
    ("files", list[str]),
    ("files", list[str] | None),
    ("files", list),
    ("images", Sequence[Image]),
    ("videos", tuple[str, ...]),
    ("audio", bytes),
    ("dependencies", list[str]),
    ("dependencies", dict[str, int]),
]
REFUSED = [
    ("agent", ...),
    ("agent", Any),
    ("team", ...),
    ("files", Any),
    ("images", ...),
    ("dependencies", ...),
    ("session_state", dict[str, int]),
    ("session_state", State),
    ("session_state", str),
    ("run_context", str),
    ("run_context", Agent),
    ("cancel_token", bool),
]


@pytest.mark.parametrize(("name", "annotation"), OURS)
def test_a_parameter_with_our_annotation_is_injected(name: str, annotation: Any) -> None:
    """The model doesn't see it, and can't pass it."""
    function = with_parameter(name, annotation)
    assert function.parameters["properties"] == {}
    with pytest.raises(ToolError, match="unknown argument"):
        function.bind({name: "x"})


@pytest.mark.parametrize(("name", "annotation"), THE_MODELS)
def test_another_annotation_makes_a_parameter_the_models(name: str, annotation: Any) -> None:
    """The model sees it, must give it, and what desist has under the name isn't passed."""
    function = with_parameter(name, annotation)
    assert list(function.parameters["properties"]) == [name]
    with pytest.raises(ToolError, match="is missing"):
        function.bind({}, {name: "ours"})


@pytest.mark.parametrize(("name", "annotation"), REFUSED)
def test_an_ambiguous_parameter_is_refused_at_definition(name: str, annotation: Any) -> None:
    """Nothing is hidden silently; the message says which annotation means what."""
    with pytest.raises(ConfigurationError, match=f"'{name}' is a reserved name"):
        Agent(ScriptedModel(["x"]), tools=[with_parameter(name, annotation)])


def test_a_tool_gets_what_the_model_gave_under_a_reserved_name() -> None:
    """Through a run: the values of the model arrive, not those of desist."""
    got: dict[str, Any] = {}

    @tool(isolation="thread")
    def assign(ticket: str, agent: Annotated[str, "the support agent"], files: list[str] | None = None) -> str:
        """Assign a ticket."""
        got.update(agent=agent, files=files)
        return ticket

    model = ScriptedModel([Call("assign", {"ticket": "T1", "agent": "Ann", "files": ["a"]}), "ok"])
    assert Agent(model, tools=[assign]).run("x").status is RunStatus.completed
    assert got == {"agent": "Ann", "files": ["a"]}


def takes(
    text: str = "",
    numbers: list[int] | None = None,
    image: Image | None = None,
    state: State | None = None,
    either: list[int] | dict[str, int] | None = None,
    pair: tuple[int, str] | None = None,
    free: dict[str, Any] | None = None,
    anything: Any = None,
    loose: str | list[int] | None = None,
    images: list[Image] = [],  # noqa: B006
) -> dict[str, Any]:
    return {name: value for name, value in locals().items() if value not in (None, "", [])}


@pytest.mark.parametrize(
    ("arguments", "got"),
    [
        ({"numbers": "[1, 2]"}, {"numbers": [1, 2]}),
        ({"numbers": json.dumps("[1, 2]")}, {"numbers": [1, 2]}),
        ({"numbers": " [1, 2]\n"}, {"numbers": [1, 2]}),
        ({"numbers": '["1"]'}, {"numbers": [1]}),
        ({"image": '{"url": "u"}'}, {"image": Image(url="u")}),
        ({"images": ['{"url": "u"}', {"url": "v"}]}, {"images": [Image(url="u"), Image(url="v")]}),
        ({"images": json.dumps([json.dumps({"url": "u"})])}, {"images": [Image(url="u")]}),
        ({"state": '{"x": 1}'}, {"state": {"x": 1}}),
        ({"either": "[1]"}, {"either": [1]}),
        ({"either": '{"a": 1}'}, {"either": {"a": 1}}),
        ({"pair": '[1, "a"]'}, {"pair": (1, "a")}),
        ({"free": '{"a": "[1]"}'}, {"free": {"a": "[1]"}}),
        ({"text": "[1, 2]"}, {"text": "[1, 2]"}),
        ({"text": '{"a": 1}'}, {"text": '{"a": 1}'}),
        ({"anything": "[1]"}, {"anything": "[1]"}),
        ({"loose": "[1]"}, {"loose": "[1]"}),
        ({"numbers": "null"}, {}),
        ({"text": "null"}, {"text": "null"}),
        ({"text": "[x]", "numbers": "[1]"}, {"text": "[x]", "numbers": [1]}),
        ({"numbers": "1, 2"}, None),
        ({"numbers": "[1"}, None),
        ({"numbers": "[NaN]"}, None),
        ({"numbers": '{"a": 1}'}, None),
        ({"numbers": "[" * 100_000}, None),
        ({"image": '{"uri": "u"}'}, None),
    ],
)
def test_json_text_in_place_of_an_object_or_array(arguments: dict[str, Any], got: dict[str, Any] | None) -> None:
    """A text is parsed where the schema wants an object or an array, and stays a text where it may be one."""
    function = Function(entrypoint=takes)
    for sent in (arguments, json.dumps(arguments), json.dumps(json.dumps(arguments))):
        if got is None:
            with pytest.raises(ToolError, match="argument '"):
                function.bind(sent)
        else:
            assert function.bind(sent).invoke() == got


def test_json_text_for_a_schema_of_the_users_own() -> None:
    """The same for `parameters=`, where the JSON schema says what is wanted."""
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "array"},
            "b": {"anyOf": [{"$ref": "#/$defs/o"}, {"type": "null"}]},
            "c": {"type": "string"},
            "d": {"type": ["array", "string"]},
            "e": {},
        },
        "$defs": {"o": {"type": "object"}},
    }

    def f(**kwargs: Any) -> Any:
        return kwargs

    sent = {"a": "[1]", "b": '{"x": 1}', "c": "[1]", "d": "[1]", "e": "[1]", "more": "[1]"}
    got = Function("f", entrypoint=f, parameters=schema).bind(sent).invoke()
    assert got == {**sent, "a": [1], "b": {"x": 1}}


@given(encoded_arguments)
def test_no_valid_argument_is_lost(case: Any) -> None:
    """Whatever arguments, and however often their objects and arrays are encoded: the tool gets them."""
    check_arguments(case)


@given(broken_texts)
def test_any_text_is_arguments_or_an_error_for_the_model(text: str) -> None:
    """No text crashes the reader of arguments, or of answers."""
    check_text(text)


async def look_up(city: str) -> str:
    """Look up a city."""
    await asyncio.sleep(0)
    return f"found {city}"


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function, as decorators of users do that know no async functions."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


async def in_pieces(city: str) -> Any:
    """Yield pieces."""
    yield "found "
    yield city


class Object:
    async def __call__(self, city: str) -> str:
        """Look up a city."""
        return await look_up(city)


class WithMethod:
    @logged
    async def method(self, city: str) -> str:
        """Look up a city."""
        return await look_up(city)


def plain(city: str, greeting: str = "found") -> str:
    """Look up a city."""
    return f"{greeting} {city}"


CALLABLES: dict[str, Any] = {
    "wraps an async function": logged(look_up),
    "wraps twice": logged(logged(look_up)),
    "wraps an async generator": logged(in_pieces),
    "wraps a plain function": logged(plain),
    "wraps in a partial": functools.partial(logged(look_up)),
    "partial": functools.partial(plain, greeting="found"),
    "partial of async": functools.partial(look_up),
    "object": Object(),
    "wrapped method": WithMethod().method,
    "lambda": lambda city: look_up(city),
    "cached": functools.lru_cache(plain),
    "future": lambda city: asyncio.run(look_up(city)),
}


@pytest.mark.parametrize("name", CALLABLES)
@pytest.mark.parametrize("streamed", [False, True])
def test_wrapped_functions_are_tools(name: str, streamed: bool) -> None:
    """Whatever is around an async function, its result is awaited where async code runs."""
    model = ScriptedModel([Call("t", {"city": "Oslo"}), "ok"])
    agent = Agent(model, tools=[Function("t", entrypoint=CALLABLES[name])])
    if streamed:
        list(agent.run("x", stream=True))
    else:
        asyncio.run(agent.arun("x"))
    assert model.requests[1].messages[-1].content == "found Oslo"


def test_a_wrapped_async_tool_is_cancelled() -> None:
    """The worst moment: the wrapper has returned its coroutine, which waits. It ends at once, and nothing is left."""
    gate = Gate()

    @logged
    async def wait() -> None:
        """Wait."""
        await gate.wait()

    agent = Agent(ScriptedModel([Call("wait", {}), "never"]), tools=[wait])
    events = agent.run("x", stream=True)
    gate.wait_reached()
    receipt = agent.cancel(events.run_id, grace=5)
    assert receipt.wait(10) and receipt.abandoned == []
    assert list(events)[-1].event == "RunCancelled"


class Mute:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Mute(), "<Mute>"),
        ([Mute(), 1], '["<Mute>",1]'),
        ({"a": Mute()}, '{"a":"<Mute>"}'),
        ({Mute(): 1}, '{"<Mute>":1}'),
        (MuteError(), "MuteError"),
    ],
    ids=["object", "list", "value", "key", "exception"],
)
def test_a_result_whose_str_raises(value: Any, text: str) -> None:
    """It has the name of its type as text: the tool has succeeded."""
    model = ScriptedModel([Call("t", {}), "ok"])
    output = Agent(model, tools=[Function("t", entrypoint=lambda: value)]).run("x")
    assert (output.status, output.tools[0].tool_call_error) == (RunStatus.completed, False)
    assert model.requests[1].messages[-1].content == text


def test_an_error_whose_str_raises() -> None:
    """It is reported by its type: of a tool to the model, of a step or an agent in the output."""

    def fail(_: Any = None) -> None:
        raise MuteError

    model = ScriptedModel([Call("t", {}), "ok"])
    agent = Agent(model, tools=[Function("t", entrypoint=lambda: fail())])
    assert agent.run("x").status is RunStatus.completed
    assert model.requests[1].messages[-1].content == "MuteError: MuteError"
    output = Agent(ScriptedModel([MuteError()])).run("x")
    assert (output.status, output.error) == (RunStatus.error, "MuteError")
    failed = Workflow("W", steps=[Step("s", executor=fail, max_retries=1, on_error="fail")]).run("x")
    assert failed.status is RunStatus.error and "MuteError" in str(failed.error)
