"""Toolkits, and what an agent makes of a list of tools."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from desist.exceptions import ConfigurationError, UnsupportedError
from desist.tools import Function, Toolkit, tool
from desist.tools.resolve import resolve_tools, tool_instructions


def a() -> str:
    return "a"


def b() -> str:
    return "b"


async def b_async() -> str:
    return "async b"


class Marked(Toolkit):
    """A toolkit of marked methods."""

    def __init__(self, **options: Any) -> None:
        self.prefix = ">"
        super().__init__(name="marked", **options)

    @tool
    def second(self, x: str) -> str:
        return self.prefix + x

    @tool(timeout=1)
    async def first(self) -> str:
        return self.prefix

    def unmarked(self) -> None: ...


def test_marked_methods_are_registered() -> None:
    """Without `tools`, the methods marked with `@tool` are the tools, bound to the toolkit."""
    kit = Marked(timeout=9)
    assert list(kit.functions) == ["second", "first"]
    assert kit.functions["second"].bind({"x": "1"}).invoke() == ">1"
    assert (kit.functions["first"].timeout, kit.functions["second"].timeout) == (1, 9)
    assert list(Marked(tools=[a]).functions) == ["a"]
    assert Marked(auto_register=False).functions == {}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["a", "b"]),
        ({"include_tools": ["b"]}, ["b"]),
        ({"include_tools": []}, []),
        ({"exclude_tools": ["b"]}, ["a"]),
        ({"include_tools": ["a", "b"], "exclude_tools": ["a"]}, ["b"]),
    ],
)
def test_include_and_exclude(options: dict[str, Any], names: list[str]) -> None:
    """Only included tools are offered, and no excluded one."""
    assert list(Toolkit("kit", [a, b], **options).get_functions()) == names


@pytest.mark.parametrize(
    "parameter", ["include_tools", "exclude_tools", "stop_after_tool_call_tools", "show_result_tools"]
)
def test_unknown_names(parameter: str) -> None:
    """A list that names a tool which isn't there is an error with the name, the list and what there is."""
    with pytest.raises(
        ConfigurationError, match=f"toolkit 'kit': {parameter} has unknown names: 'c'; the tools are: a, b"
    ):
        Toolkit("kit", [a, b], **{parameter: ["a", "c"]})
    with pytest.raises(ConfigurationError, match=f"{parameter} must be a list"):
        Toolkit("kit", [a, b], **{parameter: "a"})
    empty = Toolkit("kit", **{parameter: ["c"]})
    with pytest.raises(ConfigurationError, match="the tools are: none"):
        resolve_tools([empty])
    empty.register(a, "c")
    empty.get_functions()


def test_flags_are_set_on_copies() -> None:
    """The toolkit's settings reach its tools and leave a tool shared with others as it was."""
    shared = Function.from_callable(a)
    kit = Toolkit("kit", [shared], stop_after_tool_call_tools=["a"], show_result_tools=["a"], timeout=3)
    mine = kit.functions["a"]
    assert (mine.stop_after_tool_call, mine.show_result, mine.timeout, mine.owning_toolkit) == (True, True, 3, kit)
    assert (shared.stop_after_tool_call, shared.show_result, shared.timeout, shared.owning_toolkit) == (
        False, False, None, None,
    )  # fmt: skip


def test_async_tools_replace_sync_ones() -> None:
    """An async tool takes the place of the sync one of its name; a sync function there is refused."""
    kit = Toolkit("kit", [a, b], async_tools=[(b_async, "b")])
    assert list(kit.functions) == ["a", "b"]
    assert anyio.run(lambda: kit.functions["b"].bind("").invoke()) == "async b"
    with pytest.raises(ConfigurationError, match="'a' in async_tools is not async"):
        Toolkit("kit", async_tools=[a])


def test_refused_parameters() -> None:
    """What a toolkit can't do is refused by name."""
    with pytest.raises(UnsupportedError, match="toolkit 'kit' has no parameter cache_results="):
        Toolkit("kit", [a], cache_results=True)
    with pytest.raises(UnsupportedError, match="toolkit 'kit' has no parameter include="):
        Toolkit("kit", [a], include=["a"])


def test_duplicates_name_both_origins() -> None:
    """Two tools of one name are an error that says where each is from."""
    with pytest.raises(ConfigurationError, match=r"toolkit 'kit' has two tools named 'a': .*\.a .*and .*\.a"):
        Toolkit("kit", [a, a])
    with pytest.raises(ConfigurationError, match=r"two tools are named 'a': \S+\.a and \S+\.b \(toolkit 'kit'\)"):
        kit = Toolkit("kit")
        kit.register(b, "a")
        resolve_tools([a, kit])


def test_resolve_tools() -> None:
    """Callables, functions and toolkits are taken together, in order."""
    assert list(resolve_tools([b, Toolkit("kit", [a]), Function("c", entrypoint=a)])) == ["b", "a", "c"]
    assert resolve_tools(None) == resolve_tools([]) == {}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"type": "function"}, "a tool can't be a dict"),
        ("a", r"'a' \(str\) is not callable"),
        (None, r"None \(NoneType\) is not callable"),
        (Marked, r"a class, not a tool: pass an instance, Marked\(\)"),
        (lambda: 1, "invalid tool name '<lambda>'"),
        (print, r"takes \*args"),
    ],
)
def test_resolve_refuses(item: Any, message: str) -> None:
    """What is no tool is refused before a run, by name."""
    with pytest.raises(ConfigurationError, match=message):
        resolve_tools([a, item])


def test_instructions() -> None:
    """Instructions of tools and toolkits are collected once each, where they are to be added."""
    mine = Function("m", entrypoint=a, instructions="mine")
    quiet = Function("q", entrypoint=a, instructions="quiet", add_instructions=False)
    loud = Toolkit("loud", [a, b, mine], instructions="kit", add_instructions=True)
    silent = Toolkit("silent", [quiet], instructions="silent")
    assert tool_instructions(resolve_tools([loud, silent])) == ["kit", "mine"]
