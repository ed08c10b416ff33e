"""JSON schemas as trees: their parts, their roots, and a root for values that are no objects.

Used for tools, for structured output, and for the input of workflows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = [
    "NAMED",
    "TYPED",
    "WRAPPER_KEY",
    "has_object_root",
    "is_recursive",
    "rewritten_schema",
    "subschemas",
    "takes_null",
    "types_of",
    "without_root_ref",
    "wrapped_schema",
]

#: The only property of an object that stands for a value that is no object.
WRAPPER_KEY = "result"

NAMED = (
    "properties",
    "$defs",
    "definitions",
    "patternProperties",
    "dependentSchemas",
)  #: keywords whose value is a dict of names to schemas
_INNER = ("items", "anyOf", "oneOf", "allOf", "prefixItems", "additionalProperties", "not")  #: a schema, or a list
#: Keywords that say which type a value has.
TYPED = frozenset({"type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const", "properties"})


def has_object_root(schema: Mapping[str, Any]) -> bool:
    """Return whether the schema describes objects only. Providers require that of the root."""
    schema = without_root_ref(schema)
    return schema.get("type") == "object" and not schema.keys() & {"anyOf", "oneOf", "enum", "const"}


def wrapped_schema(schema: Mapping[str, Any], key: str = WRAPPER_KEY) -> dict[str, Any]:
    """Return the schema of an object whose only property, `key`, is a value of `schema`."""
    definitions = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    inner = {key: value for key, value in schema.items() if key not in definitions}

    def move(node: dict[str, Any]) -> None:
        reference = node.get("$ref")
        if isinstance(reference, str) and re.match(r"#(?!/(\$defs|definitions)/)", reference):
            node["$ref"] = f"#/properties/{key}{reference[1:]}"

    wrapper = {"type": "object", "properties": {key: inner}, "required": [key], **definitions}
    return {**rewritten_schema(wrapper, move), "additionalProperties": False}


def rewritten_schema(schema: Any, change: Callable[[dict[str, Any]], object]) -> Any:
    """Return a copy of a schema. `change` is called with every subschema of the copy, inner ones first."""
    if not isinstance(schema, Mapping):
        return schema
    copy = dict(schema)
    for keyword in NAMED:
        if isinstance(named := copy.get(keyword), Mapping):
            copy[keyword] = {name: rewritten_schema(inner, change) for name, inner in named.items()}
    for keyword in _INNER:
        if isinstance(inner := copy.get(keyword), list):
            copy[keyword] = [rewritten_schema(one, change) for one in inner]
        elif inner is not None:
            copy[keyword] = rewritten_schema(inner, change)
    change(copy)
    return copy


def subschemas(schema: Any) -> list[dict[str, Any]]:
    """Return copies of all schemas in a schema, inner ones first, itself last."""
    found: list[dict[str, Any]] = []
    rewritten_schema(schema, found.append)
    return found


def is_recursive(schema: Mapping[str, Any]) -> bool:
    """Return whether a type of the schema contains itself."""
    uses = {
        f"#/{key}/{name}": {node["$ref"] for node in subschemas(inner) if "$ref" in node}
        for key in ("$defs", "definitions")
        for name, inner in schema.get(key, {}).items()
    }
    if any("$ref" in node and node["$ref"] not in uses for node in subschemas(schema)):
        return True  # a reference into the schema itself
    for _ in uses:  # the transitive closure: as many rounds as there are types
        uses = {name: found.union(*(uses[one] for one in found)) for name, found in uses.items()}
    return any(name in found for name, found in uses.items())


def takes_null(schema: Mapping[str, Any]) -> bool:
    """Return whether the schema allows null."""
    if choices := schema.get("anyOf"):
        return any(takes_null(choice) for choice in choices)
    return "null" in types_of(schema) or None in schema.get("enum", ()) or not schema.keys() & TYPED


def types_of(schema: Mapping[str, Any]) -> list[str]:
    """Return the types that the keyword `type` names."""
    found = schema.get("type", [])
    return found if isinstance(found, list) else [found]


def without_root_ref(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replace a `$ref` at the root by its target: providers require an object, and recursive types have a `$ref`."""
    seen: set[str] = set()
    while isinstance(reference := schema.get("$ref"), str) and reference.startswith("#/") and reference not in seen:
        seen.add(reference)
        target: Any = schema
        for key in reference.removeprefix("#/").split("/"):
            key = key.replace("~1", "/").replace("~0", "~")
            target = target[key] if isinstance(target, Mapping) and key in target else {}
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema
