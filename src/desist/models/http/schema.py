"""Structured output: from what a program wants, a Python type or a JSON schema, to a schema that a provider takes.

Called by the models' `schema` modules, which put it into their request. A strict schema has every object closed and
nothing beside a `$ref`. A type with free keys (`dict[str, int]`) can't be said that way: it stays a plain schema.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from desist.exceptions import ConfigurationError

__all__ = ["Shape", "closed", "has_free_keys", "shape_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What an answer is to look like."""

    name: str  #: letters, digits, `_` and `-`
    schema: dict[str, Any]
    strict: bool  #: whether the schema is closed, with every property required


def shape_of(wanted: type[Any] | dict[str, Any]) -> Shape:
    """Return the shape of a pydantic model (or any type that pydantic knows), or of a JSON schema.

    Raises:
        ConfigurationError: no JSON schema can be made of it.
    """
    if isinstance(wanted, dict):
        return _named(str(wanted.get("title") or "answer"), wanted, strict=False)
    schema = _schema_of(wanted)
    strict = not has_free_keys(schema)
    return _named(wanted.__name__, closed(schema) if strict else schema, strict=strict)


def _named(name: str, schema: dict[str, Any], *, strict: bool) -> Shape:
    return Shape(name=re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64], schema=schema, strict=strict)


def _schema_of(wanted: type[Any]) -> dict[str, Any]:
    import pydantic

    try:
        return pydantic.TypeAdapter(wanted).json_schema()
    except pydantic.errors.PydanticUserError as error:
        raise ConfigurationError(f"no JSON schema can be made of {wanted!r}: {error}") from None


def has_free_keys(schema: Any) -> bool:
    """Whether an object somewhere in `schema` may have keys that it doesn't name."""
    if isinstance(schema, list):
        return any(map(has_free_keys, schema))
    if not isinstance(schema, dict):
        return False
    if schema.get("type") == "object" and not schema.get("properties") and schema.get("additionalProperties", True):
        return True
    return bool(schema.get("additionalProperties")) or any(map(has_free_keys, schema.values()))


def closed(schema: dict[str, Any], *, all_required: bool = True) -> dict[str, Any]:
    """Return a copy of `schema` with every object closed, and every property required unless told otherwise."""
    result: dict[str, Any] = _closed(schema, schema, all_required)
    return result


def _closed(node: Any, root: dict[str, Any], all_required: bool) -> Any:
    if isinstance(node, list):
        return [_closed(entry, root, all_required) for entry in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node and len(node) > 1:
        beside = {key: value for key, value in node.items() if key != "$ref"}
        return _closed({**_target(node["$ref"], root), **beside}, root, all_required)
    found = {key: value for key, value in node.items() if not (key == "default" and value is None)}
    for key in ("properties", "$defs"):
        if isinstance(found.get(key), dict):
            found[key] = {name: _closed(entry, root, all_required) for name, entry in found[key].items()}
    for key in ("items", "anyOf", "allOf", "oneOf", "prefixItems"):
        if key in found:
            found[key] = _closed(found[key], root, all_required)
    if found.get("type") == "object":
        if all_required:
            found["required"] = list(found.get("properties", ()))
        found["additionalProperties"] = False
    return found


def _target(ref: str, root: dict[str, Any]) -> dict[str, Any]:
    node: Any = root
    for key in ref.removeprefix("#/").split("/"):
        node = node[key]
    return dict(node)
