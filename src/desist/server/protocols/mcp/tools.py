"""Workflows and agents as an MCP client sees them: tools with a name, words, and a schema of what they take."""

from __future__ import annotations

import re
from typing import Any

from desist.exceptions import ConfigurationError
from desist.server.components import Component, Components
from desist.server.problems import HTTPProblem

__all__ = ["mcp_tools", "parse_input", "schema_of"]

_TEXT = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "What it is asked."}},
    "required": ["input"],
    "additionalProperties": False,
}


def mcp_tools(known: Components) -> dict[str, Component]:
    """Return what is served by the names of the tools: their ids; where two have one, with their kind before it.

    Raises:
        ConfigurationError: two ids make one name.
    """
    found: dict[str, Component] = {}
    agents = {_name(one.id) for one in known.of_kind("agent")}
    workflows = {_name(one.id) for one in known.of_kind("workflow")}
    for kind in ("workflow", "agent"):
        for one in known.of_kind(kind):
            name = f"{kind}-{_name(one.id)}" if _name(one.id) in agents & workflows else _name(one.id)
            if name in found:
                raise ConfigurationError(
                    f"{kind}s {found[name].id!r} and {one.id!r} are both called {name!r} in MCP: give one another id="
                )
            found[name] = one
    return found


def _name(component_id: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", component_id)[:128]


def schema_of(component: Component) -> dict[str, Any]:
    """Return the schema of a call's arguments."""
    schema = getattr(component, "input_schema", None)
    made: dict[str, Any] = schema.model_json_schema() if schema is not None else _TEXT
    return made


def parse_input(component: Component, arguments: dict[str, Any]) -> Any:
    """Return what a call's arguments ask.

    Raises:
        Refused: with 422.
    """
    if getattr(component, "input_schema", None) is not None:
        return arguments
    if set(arguments) != {"input"} or not isinstance(arguments["input"], str):
        raise HTTPProblem(422, "the one argument is input, a text")
    return arguments["input"]
