"""Convert the `tools` of an agent to `Function`s by name. Called once per agent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from desist.exceptions import ConfigurationError
from desist.tools.function import Function
from desist.tools.toolkit import Toolkit

__all__ = ["resolve_tools", "tool_instructions"]


def resolve_tools(tools: Iterable[Any] | None) -> dict[str, Function]:
    """Return the `Function`s by name for callables, `Function`s and `Toolkit`s, and check their schemas.

    Raises:
        ConfigurationError: an object is not a tool, a tool has no schema, or two tools have the same name.
    """
    found: dict[str, Function] = {}
    for item in tools or ():
        for function in _functions(item):
            if taken := found.get(function.name):
                raise ConfigurationError(
                    f"two tools are named '{function.name}': {taken.origin} and {function.origin}; rename one"
                )
            function.check()
            found[function.name] = function
    return found


def tool_instructions(functions: Mapping[str, Function]) -> list[str]:
    """Return the instructions of tools and their toolkits for the system prompt, without duplicates."""
    wanted: dict[str, None] = {}
    for function in functions.values():
        for holder in (function.owning_toolkit, function):
            if holder is not None and holder.add_instructions and holder.instructions:
                wanted[holder.instructions] = None
    return list(wanted)


def _functions(item: Any) -> list[Function]:
    if isinstance(item, Toolkit):
        return list(item.get_functions().values())
    if isinstance(item, Mapping):
        raise ConfigurationError(f"a tool can't be a dict, which is not callable: pass a function, got {item!r}")
    return [Function.from_callable(item)]
