"""Workflows and agents as MCP tools: names and input schemas."""

from __future__ import annotations

import re
from typing import Any

from desist.exceptions import ConfigurationError
from desist.json_schema import wrapped_schema
from desist.server.components import Component, Components, input_type_of
from desist.server.problems import HTTPProblem

__all__ = ["mcp_tools", "parse_input", "schema_of"]

_TEXT = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The input of the run."}},
    "required": ["input"],
    "additionalProperties": False,
}


def mcp_tools(known: Components) -> dict[str, Component]:
    """Return the components by tool name: the id, with the kind as a prefix if a workflow and an agent share it.

    Raises:
        ConfigurationError: two ids give the same name.
    """
    found: dict[str, Component] = {}
    agents = {_name(one.id) for one in known.of_kind("agent")}
    workflows = {_name(one.id) for one in known.of_kind("workflow")}
    for kind in ("workflow", "agent"):
        for one in known.of_kind(kind):
            name = f"{kind}-{_name(one.id)}" if _name(one.id) in agents & workflows else _name(one.id)
            if name in found:
                raise ConfigurationError(
                    f"{kind}s {found[name].id!r} and {one.id!r} have the MCP tool name {name!r}: give one another id="
                )
            found[name] = one
    return found


def _name(component_id: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", component_id)[:128]


def schema_of(component: Component) -> dict[str, Any]:
    """Return the JSON schema of the arguments."""
    input_type = input_type_of(component)
    if input_type is None:
        return _TEXT
    return wrapped_schema(input_type.schema, "input") if input_type.is_wrapped else input_type.schema


def parse_input(component: Component, arguments: dict[str, Any]) -> Any:
    """Return the input in the arguments of a call.

    Raises:
        HTTPProblem: 422 for invalid arguments.
    """
    input_type = input_type_of(component)
    if input_type is not None and not input_type.is_wrapped:
        return arguments
    if input_type is not None and set(arguments) == {"input"}:
        return arguments["input"]
    if set(arguments) != {"input"} or not isinstance(arguments["input"], str):
        raise HTTPProblem(422, "the only argument is input, and must be a string")
    return arguments["input"]
