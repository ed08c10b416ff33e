"""JSON schemas for the strict mode of providers: closed objects, all properties required, nothing beside a `$ref`.

Used for tools and for structured output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

__all__ = ["non_strict_parts", "rewritten_schema", "strict_schema", "takes_null"]

_NAMED = ("properties", "$defs")  #: keywords whose value is a dict of names to schemas
_INNER = ("items", "anyOf", "oneOf", "allOf", "prefixItems")  #: keywords whose value is a schema, or a list of them
_TYPED = frozenset({"type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"})


def non_strict_parts(schema: Any, path: str) -> Iterator[str]:
    """Yield the parts that strict mode can't express, each with its path: free keys, and values of any type."""
    if not isinstance(schema, Mapping):
        return
    if schema.get("additionalProperties") or (
        schema.get("type") == "object" and not {"properties", "additionalProperties"} & schema.keys()
    ):
        yield f"{path}: a dict with arbitrary keys"
    elif not schema.keys() & (_TYPED | {"properties"}):
        yield f"{path}: a value of any type"
    for keyword in _NAMED:
        for name, inner in schema.get(keyword, {}).items():
            yield from non_strict_parts(inner, f"{path}.{name}")
    for inner in _inner(schema):
        yield from non_strict_parts(inner, path)


def strict_schema(schema: Mapping[str, Any], *, optional: Literal["kept", "required", "null"]) -> dict[str, Any]:
    """Return a copy with every object closed, and nothing beside a `$ref`.

    Parameters:
        optional: what to do with optional properties. "kept": nothing. "required": make them required. "null": make
            them required and nullable; null stands for the default.
    """

    def close(node: dict[str, Any]) -> None:
        if optional == "null" or node.get("default", ...) is None:
            node.pop("default", None)
        if "$ref" in node and len(node) > 1:
            node["anyOf"] = [{"$ref": node.pop("$ref")}]
        if node.get("type") != "object" and "properties" not in node:
            return
        properties = node.setdefault("properties", {})
        if optional == "null":
            for name in properties.keys() - set(node.get("required", ())):
                properties[name] = _nullable(properties[name])
        if optional != "kept":
            node["required"] = list(properties)
        node["additionalProperties"] = False

    result: dict[str, Any] = rewritten_schema(_without_root_ref(schema), close)
    return result


def rewritten_schema(schema: Any, change: Callable[[dict[str, Any]], object]) -> Any:
    """Return a copy of a schema. `change` is called with every subschema of the copy, inner ones first."""
    if not isinstance(schema, Mapping):
        return schema
    copy = dict(schema)
    for keyword in _NAMED:
        if keyword in copy:
            copy[keyword] = {name: rewritten_schema(inner, change) for name, inner in copy[keyword].items()}
    for keyword in _INNER:
        if isinstance(inner := copy.get(keyword), list):
            copy[keyword] = [rewritten_schema(one, change) for one in inner]
        elif inner is not None:
            copy[keyword] = rewritten_schema(inner, change)
    change(copy)
    return copy


def takes_null(schema: Mapping[str, Any]) -> bool:
    """Return whether the schema allows null."""
    if choices := schema.get("anyOf"):
        return any(takes_null(choice) for choice in choices)
    kind = schema.get("type")
    return kind == "null" or "null" in schema.get("enum", ()) or not schema.keys() & {"type", "$ref", "enum", "const"}


def _inner(schema: Mapping[str, Any]) -> Iterator[Any]:
    for keyword in _INNER:
        value = schema.get(keyword, ())
        yield from value if isinstance(value, list | tuple) else [value]


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    if takes_null(schema):
        return schema
    inner = {keyword: value for keyword, value in schema.items() if keyword != "description"}
    outer = {"description": schema["description"]} if "description" in schema else {}
    return {"anyOf": [inner, {"type": "null"}], **outer}


def _without_root_ref(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replace a `$ref` at the root by its target: providers require an object, and recursive types have a `$ref`."""
    while "$ref" in schema:
        target: Any = schema
        for key in schema["$ref"].removeprefix("#/").split("/"):
            target = target[key]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema
