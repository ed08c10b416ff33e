"""Check the schemas of strict tools and structured output, as the providers document them. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from provider_requests.rules import mapping, wrong

__all__ = ["check_object_root", "check_openai_schema", "check_anthropic_schema"]

_REFUSED = frozenset(
    {"oneOf", "not", "if", "then", "else", "prefixItems", "patternProperties", "propertyNames", "uniqueItems"}
    | {"dependentRequired", "dependentSchemas", "unevaluatedProperties", "unevaluatedItems", "contains"}
    | {"minContains", "maxContains", "minProperties", "maxProperties", "discriminator"}
)
_OPENAI = _REFUSED | {"allOf", "default"}
_ANTHROPIC = _REFUSED | frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems"}
)
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_TYPED = frozenset({"type", "$ref", "anyOf", "allOf", "enum", "const"})
_LOOK_AROUND = re.compile(r"\(\?<?[=!]|\\[1-9]")


def check_object_root(where: str, schema: Any) -> None:
    """Check that the root of a schema is an object, and not one of several."""
    root = mapping(where, schema)
    if root.get("type") != "object" or root.keys() & {"anyOf", "oneOf", "allOf", "enum", "not"}:
        raise wrong(where, f"the root must be of type 'object', not {root.get('type')!r}, without a choice")


def check_openai_schema(where: str, schema: Any) -> None:
    """Check a strict schema of chat completions or the Responses API."""
    check_object_root(where, schema)
    nodes = list(_nodes(where, schema))
    for path, node in nodes:
        _check_node(path, node, _OPENAI, _FORMATS)
        if "$ref" in node and len(node) > 1:
            raise wrong(path, f"$ref can't have keywords beside it: {sorted(node.keys() - {'$ref'})}")
        if node.get("type") == "object" and sorted(node.get("required", ())) != sorted(node.get("properties", {})):
            raise wrong(f"{path}.required", "must name every property")
        if node.get("type") == "array" and not isinstance(node.get("items"), Mapping):
            raise wrong(path, "a list needs items")
    if sum(len(node.get("properties", ())) for _, node in nodes) > 5000:
        raise wrong(where, "more than 5000 properties")
    if sum(len(node.get("enum", ())) for _, node in nodes) > 1000:
        raise wrong(where, "more than 1000 values of enums")


def check_anthropic_schema(where: str, schema: Any) -> None:
    """Check a schema of `output_config`, or of a strict tool, of the Messages API."""
    definitions = mapping(where, schema).get("$defs", {})
    for path, node in _nodes(where, schema):
        _check_node(path, node, _ANTHROPIC, _FORMATS | {"uri"})
        if node.get("minItems", 0) > 1:
            raise wrong(f"{path}.minItems", "must be 0 or 1")
    for name in definitions:
        if name in _reached(name, definitions, set()):
            raise wrong(f"{where}.$defs.{name}", "a type must not contain itself")


def _check_node(path: str, node: Mapping[str, Any], refused: frozenset[str], formats: frozenset[str]) -> None:
    for keyword in sorted(node.keys() & refused):
        raise wrong(f"{path}.{keyword}", "isn't permitted in a strict schema")
    if not node.keys() & _TYPED:
        raise wrong(path, "a strict schema must have a type")
    if node.get("type") == "object" and node.get("additionalProperties") is not False:
        raise wrong(path, "an object of a strict schema needs additionalProperties: false")
    if "format" in node and node["format"] not in formats:
        raise wrong(f"{path}.format", f"{node['format']!r} isn't known")
    if _LOOK_AROUND.search(node.get("pattern", "")):
        raise wrong(f"{path}.pattern", "must not look around or back")


def _nodes(path: str, node: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    node = mapping(path, node)
    yield path, node
    for keyword in ("properties", "$defs", "definitions"):
        for name, inner in node.get(keyword, {}).items():
            yield from _nodes(f"{path}.{keyword}.{name}", inner)
    for keyword in ("anyOf", "allOf"):
        for number, inner in enumerate(node.get(keyword, ())):
            yield from _nodes(f"{path}.{keyword}[{number}]", inner)
    if "items" in node:
        yield from _nodes(f"{path}.items", node["items"])


def _reached(name: str, definitions: Mapping[str, Any], seen: set[str]) -> set[str]:
    for _, node in _nodes(name, definitions[name]):
        used = str(node.get("$ref", "")).rpartition("/")[2]
        if used in definitions and used not in seen:
            seen.add(used)
            _reached(used, definitions, seen)
    return seen
