"""Rewrites a tool's JSON schema for a provider's strict mode. Called by `function`; pure, knows only JSON schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from desist.exceptions import ConfigurationError

__all__ = ["strict_schema", "takes_null"]


def strict_schema(schema: dict[str, Any], tool: str) -> dict[str, Any]:
    """Return the schema as strict mode wants it: closed objects, every property required, null for "the default".

    Raises:
        ConfigurationError: something in it can't be strict: a dict of free keys, or a value without a type.
    """
    copied: dict[str, Any] = _copied(schema)
    for path, node in _nodes(copied, tool):
        if node.get("type") == "object" or "properties" in node:
            if node.get("additionalProperties") not in (None, False) or "properties" not in node:
                raise ConfigurationError(f"{path}: a dict of free keys can't be strict; use a model or strict=False")
            required = node.get("required", [])
            node["properties"] = {
                name: one if name in required else _nullable(one) for name, one in node["properties"].items()
            }
            node.update(additionalProperties=False, required=list(node["properties"]))
        elif not node.keys() & {"type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"}:
            raise ConfigurationError(f"{path}: any value at all can't be strict; annotate it or use strict=False")
        node.pop("default", None)
    return copied


def takes_null(schema: Mapping[str, Any]) -> bool:
    """Whether null is a value of this schema."""
    if choices := schema.get("anyOf"):
        return any(takes_null(choice) for choice in choices)
    kind = schema.get("type")
    return kind == "null" or "null" in schema.get("enum", ()) or not schema.keys() & {"type", "$ref", "enum", "const"}


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    if takes_null(schema):
        return schema
    inner = {key: value for key, value in schema.items() if key not in ("description", "default")}
    outer = {"description": schema["description"]} if "description" in schema else {}
    return {"anyOf": [inner, {"type": "null"}], **outer}


def _nodes(node: Any, path: str, *, names: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema in a schema with its path, inner ones last."""
    if isinstance(node, dict):
        if not names:
            yield f"tool {path}", node
        for key, value in list(node.items()):
            if names or key in ("properties", "$defs"):
                yield from _nodes(value, f"{path}.{key}" if names else path, names=not names)
            elif key in ("items", "anyOf", "oneOf", "allOf", "prefixItems"):
                for item in value if isinstance(value, list) else [value]:
                    yield from _nodes(item, path)


def _copied(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _copied(value) for key, value in node.items()}
    return [_copied(item) for item in node] if isinstance(node, list) else node
