"""Makes of what a user calls tools what an agent works with: `Function`s by name. Called by the agent, once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from desist.exceptions import ConfigurationError
from desist.tools.function import Function
from desist.tools.toolkit import Toolkit

__all__ = ["resolve_tools", "tool_instructions"]


def resolve_tools(tools: Iterable[Any] | None) -> dict[str, Function]:
    """Return the tools by name: callables, `Function`s and `Toolkit`s, their schemas checked.

    Raises:
        ConfigurationError: something that is no tool, a tool that can't be described, or two of one name.
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
    """Return the words for the system prompt that tools and their toolkits want added, each once."""
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
        raise ConfigurationError(f"a tool can't be a dict, which desist couldn't call: pass a function, got {item!r}")
    return [Function.from_callable(item)]
