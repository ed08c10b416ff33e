"""Structured output: from a Python type to the `response_format` of the API. Called by `body`.

The API's strict mode wants every object closed, every property required, and nothing beside a `$ref`. A type with free
keys (`dict[str, int]`) can't be said that way: it is sent as a plain schema.
"""

from __future__ import annotations

import re
from typing import Any

from desist.exceptions import ConfigurationError

__all__ = ["response_format"]

_FORMATS = ("text", "json_object", "json_schema")


def response_format(wanted: type[Any] | dict[str, Any]) -> dict[str, Any]:
    """Return the parameter for a pydantic model (or any type that pydantic knows), a JSON schema, or itself.

    Raises:
        ConfigurationError: no JSON schema can be made of it.
    """
    if isinstance(wanted, dict):
        if wanted.get("type") in _FORMATS:
            return wanted
        return _named(str(wanted.get("title") or "answer"), wanted, strict=False)
    schema = _schema_of(wanted)
    strict = not _has_free_keys(schema)
    return _named(wanted.__name__, _closed(schema, schema) if strict else schema, strict=strict)


def _named(name: str, schema: dict[str, Any], *, strict: bool) -> dict[str, Any]:
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64]
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": strict}}


def _schema_of(wanted: type[Any]) -> dict[str, Any]:
    import pydantic

    try:
        return pydantic.TypeAdapter(wanted).json_schema()
    except pydantic.errors.PydanticUserError as error:
        raise ConfigurationError(f"no JSON schema can be made of {wanted!r}: {error}") from None


def _has_free_keys(schema: Any) -> bool:
    if isinstance(schema, list):
        return any(map(_has_free_keys, schema))
    if not isinstance(schema, dict):
        return False
    if schema.get("type") == "object" and not schema.get("properties") and schema.get("additionalProperties", True):
        return True
    return bool(schema.get("additionalProperties")) or any(map(_has_free_keys, schema.values()))


def _closed(node: Any, root: dict[str, Any]) -> Any:
    """Return a copy of `node` in strict form."""
    if isinstance(node, list):
        return [_closed(entry, root) for entry in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node and len(node) > 1:
        beside = {key: value for key, value in node.items() if key != "$ref"}
        return _closed({**_target(node["$ref"], root), **beside}, root)
    closed = {key: value for key, value in node.items() if not (key == "default" and value is None)}
    for key in ("properties", "$defs"):
        if isinstance(closed.get(key), dict):
            closed[key] = {name: _closed(entry, root) for name, entry in closed[key].items()}
    for key in ("items", "anyOf", "allOf", "oneOf", "prefixItems"):
        if key in closed:
            closed[key] = _closed(closed[key], root)
    if closed.get("type") == "object":
        closed["required"] = list(closed.get("properties", ()))
        closed["additionalProperties"] = False
    return closed


def _target(ref: str, root: dict[str, Any]) -> dict[str, Any]:
    node: Any = root
    for key in ref.removeprefix("#/").split("/"):
        node = node[key]
    return dict(node)
