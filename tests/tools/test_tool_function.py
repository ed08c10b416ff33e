"""Functions, their calls and their results; `@tool`."""

from __future__ import annotations

import dataclasses
import decimal
import functools
import inspect
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from desist.exceptions import ConfigurationError, RetryAgentRun, RunCancelled, ToolError, UnsupportedError
from desist.tools import Function, FunctionCall, tool
from desist.tools.result import result_text


async def coroutine(x: int = 1) -> int:
    return x


async def pieces() -> AsyncIterator[str]:
    yield "a"
    yield "b"


def plain() -> Iterator[str]:
    yield "a"
    yield "b"


class Thing:
    async def method(self) -> int:
        return 1

    def sync(self) -> int:
        return 2

    async def __call__(self) -> int:
        """Call it."""
        return 3


@pytest.mark.parametrize(
    ("function", "expected", "result"),
    [
        (coroutine, True, 1),
        (pieces, True, "ab"),
        (plain, False, "ab"),
        (Thing().method, True, 1),
        (Thing().sync, False, 2),
        (Thing(), True, 3),
        (functools.partial(coroutine, x=4), True, 4),
        (functools.partial(Thing()), True, 3),
        (functools.partial(functools.partial(coroutine), 5), True, 5),
        (staticmethod(coroutine), True, 1),
    ],
)
def test_async_detection(function: Any, expected: bool, result: Any) -> None:
    """Async is seen through methods, partials, objects and generators, and `invoke` gives a coroutine of the value."""
    made = Function.from_callable(function)
    assert made.is_async is expected

    async def run() -> Any:
        value = made.bind("").invoke()
        assert inspect.iscoroutine(value) is expected
        return await value if expected else value

    assert anyio.run(run) == result


def test_plain_function_that_returns_a_coroutine() -> None:
    """A sync wrapper of async code gives a coroutine of the value; called without a loop, an error says so."""
    function = Function("f", entrypoint=lambda: coroutine())
    assert anyio.run(function.bind("").invoke) == 1
    result = FunctionCall(function).execute()
    assert result.error is not None and "returned an awaitable" in result.error
    assert anyio.run(FunctionCall(function).aexecute).result == 1


@pytest.mark.parametrize("name", ["<lambda>", "a b", "", "größe", "x" * 65])
def test_bad_names(name: str) -> None:
    """A name that providers refuse is refused here, before a run."""
    with pytest.raises(ConfigurationError, match="invalid tool name"):
        Function(name, entrypoint=lambda: None)


@pytest.mark.parametrize(
    ("entrypoint", "message"),
    [(Thing, r"a class, not a tool: pass an instance, Thing\(\)"), (3, "3 .*is not callable"), ("f", "is not callable"),
     (classmethod(lambda cls: None), "classmethod")],
)  # fmt: skip
def test_what_is_no_tool(entrypoint: Any, message: str) -> None:
    """What can't be a tool is named."""
    with pytest.raises(ConfigurationError, match=message):
        Function("f", entrypoint=entrypoint)


@pytest.mark.parametrize("parameter", ["cache_results", "tool_hooks"])
def test_parameters_not_supported_yet(parameter: str) -> None:
    """A parameter without an effect here is refused by name, unless it is switched off."""
    with pytest.raises(UnsupportedError, match=f"has no parameter {parameter}="):
        Function("f", entrypoint=plain, **{parameter: True})
    with pytest.raises(UnsupportedError, match=f"@tool has no parameter {parameter}="):
        tool(**{parameter: True})
    Function("f", entrypoint=plain, **{parameter: False})


def test_unknown_parameters() -> None:
    """A misspelled parameter is refused by name."""
    with pytest.raises(UnsupportedError, match="Function has no parameter colour="):
        Function("f", entrypoint=plain, colour=1)
    with pytest.raises(UnsupportedError, match="@tool has no parameter entrypoint="):
        tool(entrypoint=plain)


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_bad_timeout(timeout: float) -> None:
    """A timeout that isn't above 0 is refused with its value."""
    with pytest.raises(ConfigurationError, match=f"more than 0 seconds, got {timeout}"):
        Function("f", entrypoint=plain, timeout=timeout)


def test_tool_decorator() -> None:
    """`@tool` works with and without options, and its product can be called as before."""

    @tool
    def one(x: int) -> int:
        """One."""
        return x

    @tool(name="zwei", description="Two.", timeout=2, stop_after_tool_call=True, show_result=True, instructions="i")
    async def two() -> int:
        return 2

    assert one.definition() == {
        "type": "function",
        "function": {"name": "one", "description": "One.", "parameters": one.parameters},
    }
    assert one(5) == 5
    assert (two.name, two.description, two.timeout, two.stop_after_tool_call, two.show_result, two.instructions) == (
        "zwei", "Two.", 2, True, True, "i",
    )  # fmt: skip
    with pytest.raises(ConfigurationError, match="already a tool"):
        tool(name="x")(one)
    with pytest.raises(ConfigurationError, match="@tool takes a function, got 'zwei'"):
        tool("zwei")  # type: ignore[arg-type]


def test_decorated_methods_are_bound() -> None:
    """A marked method is bound to its object, a static one isn't; `self` is not a parameter for the model."""

    class Kit:
        def __init__(self, n: int) -> None:
            self.n = n

        @tool
        def add(self, x: int) -> int:
            return self.n + x

        @tool
        @staticmethod
        def free(x: int) -> int:
            return x

    a, b = Kit(1), Kit(2)
    assert a.add.bind({"x": 1}).invoke() == 2
    assert b.add.bind({"x": 1}).invoke() == 3
    assert list(a.add.parameters["properties"]) == ["x"]
    assert a.free.bind({"x": 1}).invoke() == 1


def test_hooks_run_around_the_tool() -> None:
    """Hooks get the call and what desist fills in; the second sees the result."""
    seen: list[Any] = []
    function = Function(
        "f",
        entrypoint=lambda x: x + 1,
        pre_hook=lambda fc, agent: seen.append((fc.function.name, fc.arguments, agent)),
        post_hook=lambda fc: seen.append(fc.result),
    )
    assert function.bind({"x": 1}, {"agent": "A"}).invoke() == 2
    assert seen == [("f", {"x": 1}, "A"), 2]


def test_async_hooks() -> None:
    """An async tool takes async hooks; a sync tool refuses them."""
    seen: list[Any] = []

    async def hook(fc: Any) -> None:
        seen.append(fc.result)

    function = Function("f", entrypoint=coroutine, pre_hook=hook, post_hook=hook)
    assert anyio.run(lambda: function.bind("").invoke()) == 1
    assert seen == [None, 1]
    with pytest.raises(ConfigurationError, match="is sync, so its hook"):
        Function("f", entrypoint=plain, pre_hook=hook)
    with pytest.raises(ConfigurationError, match="may take the call"):
        Function("f", entrypoint=plain, pre_hook=lambda a, b: None)


@dataclasses.dataclass
class Point:
    x: int


class Model(pydantic.BaseModel):
    x: int


class Opaque:
    def __str__(self) -> str:
        return "opaque \ud800"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (None, ""),
        (3, "3"),
        (True, "true"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        ([Point(1), Model(x=2)], '[{"x":1},{"x":2}]'),
        (Point(1), '{"x":1}'),
        (Model(x=1), '{"x":1}'),
        (decimal.Decimal("1.50"), "1.50"),
        ({"é": "ü"}, '{"é":"ü"}'),
        (iter(["a", 1, None]), "a1"),
        (b"\xffa", "\ufffda"),
        ("\ud800a", "\ufffda"),
        ("\ud83d\ude00", "😀"),
        (["\ud800"], '["\ufffd"]'),
        (Opaque(), "opaque \ufffd"),
        ({"k": Opaque()}, '{"k": "opaque \ufffd"}'),
        ({(1, 2): 3}, '{"(1, 2)":3}'),
        (ValueError("no"), "no"),
    ],
)
def test_result_text(value: Any, text: str) -> None:
    """Every result has a text, JSON where it has that form, and the text is valid Unicode."""
    assert result_text(value) == text
    result_text(value).encode()


def test_result_that_holds_itself() -> None:
    """A circular value is shown, not a crash."""
    value: list[Any] = []
    value.append(value)
    assert result_text(value) == "[[...]]"


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=())) | st.lists(st.text(st.characters(exclude_categories=()))))
def test_result_text_is_always_unicode(value: Any) -> None:
    """Whatever text a tool returns can be sent."""
    text = result_text(value)
    text.encode()
    if not isinstance(value, str):
        assert len(json.loads(text)) == len(value)


def test_function_call() -> None:
    """A call that succeeds or fails says so; an agent's signals and a cancel pass."""

    @tool
    def divide(a: int, b: int) -> float:
        if b == 1:
            raise RunCancelled
        if b == 2:
            raise RetryAgentRun("again")
        return a / b

    call = FunctionCall(divide, '{"a": 1, "b": 4}', call_id="c")
    assert call.execute().result == call.result == 0.25
    assert FunctionCall(divide, {"a": 1, "b": 0}).execute().error == "division by zero"
    assert FunctionCall(divide, {"a": 1}).execute().status == "failure"
    for b, error in ((1, RunCancelled), (2, RetryAgentRun)):
        with pytest.raises(error):
            FunctionCall(divide, {"a": 1, "b": b}).execute()
    with pytest.raises(ToolError, match="is async: use `await call"):
        FunctionCall(Function.from_callable(coroutine)).execute()


def test_function_call_on_a_loop() -> None:
    """`aexecute` awaits an async tool and runs a sync one in another thread."""
    where = Function("where", entrypoint=threading.get_ident)

    async def run() -> None:
        assert (await FunctionCall(Function.from_callable(coroutine), {"x": 2}).aexecute()).result == 2
        assert (await FunctionCall(where).aexecute()).result != threading.get_ident()
        assert (await FunctionCall(where, "[").aexecute()).status == "failure"

    anyio.run(run)


def test_import_is_light() -> None:
    """Importing the tools, and marking one, imports neither pydantic nor ddgs."""
    code = (
        "import sys; import desist.tools, desist.tools.duckduckgo; desist.tools.tool(lambda: 1) if 0 else None\n"
        "@desist.tools.tool\ndef f(x: int): ...\n"
        "print([m for m in ('pydantic', 'ddgs', 'openai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_in_their_other_places() -> None:
    """Programs of this API find these names where they are used to."""
    import desist.run
    import desist.run.events.base
    import desist.tools
    import desist.tools.function

    assert desist.tools.function.FunctionCall is desist.tools.FunctionCall
    assert desist.run.events.base.RunContext is desist.run.RunContext
