"""Strict schemas: only what providers accept, in closed objects with all properties required.

What a provider doesn't accept is written in other words where that is possible: `oneOf` as `anyOf`, a tuple as a list
with a length, a limit as part of the description. Used for tools and for structured output.
"""

from __future__ import annotations

import functools
import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from desist.json_schema import NAMED, TYPED, rewritten_schema, subschemas, takes_null, types_of, without_root_ref

__all__ = ["ANTHROPIC", "OPENAI", "StrictRules", "non_strict_parts", "say_not_strict", "strict_schema"]

log = logging.getLogger("desist.models")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STRUCTURE = _words(
    "type properties required additionalProperties items anyOf enum const $ref $defs definitions title description"
)
#: Keywords without an effect on what is valid. Left out.
_ANNOTATIONS = _words(
    "default examples example deprecated readOnly writeOnly discriminator $schema $id $comment "
    "contentMediaType contentEncoding contentSchema"
)
#: Keywords that no other words can stand for.
_INEXPRESSIBLE = _words(
    "not if then else patternProperties propertyNames dependentSchemas dependentRequired dependencies contains "
    "unevaluatedProperties unevaluatedItems additionalItems $dynamicRef $recursiveRef"
)
_FORMATS = _words("date-time time date duration email hostname ipv4 ipv6 uuid")
#: Groups other than plain and named ones, word boundaries and references: not every provider's expressions have them.
_ODD_PATTERN = re.compile(r"\(\?(?!:)|\\[1-9bBkAZpP]")
_MOST_PROPERTIES, _MOST_ENUM_VALUES, _MOST_TEXT = 5000, 1000, 120_000
_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


@dataclass(frozen=True, slots=True)
class StrictRules:
    """What a provider accepts in strict schemas, besides the structure of types."""

    limits: frozenset[str]  #: keywords for limits of values
    formats: frozenset[str]  #: values of `format`


OPENAI = StrictRules(
    limits=_words("pattern format multipleOf minimum maximum exclusiveMinimum exclusiveMaximum minItems maxItems"),
    formats=_FORMATS,
)
ANTHROPIC = StrictRules(limits=frozenset({"format"}), formats=_FORMATS | {"uri"})


def non_strict_parts(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """Yield the parts that strict mode can't express, each with its path: free keys, values of any type, and so on."""
    yield from _non_strict(schema, path)
    nodes = list(subschemas(schema))
    names = [name for node in nodes for key in ("properties", "$defs") for name in node.get(key, ())]
    values = [value for node in nodes for value in node.get("enum", ())]
    if sum(len(node.get("properties", ())) for node in nodes) > _MOST_PROPERTIES or len(values) > _MOST_ENUM_VALUES:
        yield f"{path}: more than {_MOST_PROPERTIES} properties or {_MOST_ENUM_VALUES} values of enums"
    elif sum(len(str(text)) for text in (*names, *values)) > _MOST_TEXT:
        yield f"{path}: names and values of more than {_MOST_TEXT} letters"


def _non_strict(schema: Any, path: str) -> Iterator[str]:
    if not isinstance(schema, Mapping):
        yield f"{path}: a value of any type" if schema is True else f"{path}: {schema!r:.40} in place of a schema"
        return
    types = types_of(schema)
    if len(schema.get("allOf", ())) > 1 or {"oneOf", "anyOf"} <= schema.keys():
        yield f"{path}: schemas that all hold"
    if not str(schema.get("$ref", "#")).startswith("#"):
        yield f"{path}: a reference to another document"
    if schema.get("additionalProperties", False) is not False or (
        "object" in types and not {"properties", "additionalProperties"} & schema.keys()
    ):
        yield f"{path}: a dict with arbitrary keys"
    elif not schema.keys() & TYPED:
        yield f"{path}: a value of any type"
    for keyword in sorted(schema.keys() & _INEXPRESSIBLE):
        yield f"{path}: the keyword {keyword!r}"
    if "array" in types and (not _item_schemas(schema) or isinstance(schema.get("items"), list)):
        yield f"{path}: a value of any type"
    for keyword in NAMED:
        for name, inner in schema.get(keyword, {}).items():
            yield from _non_strict(inner, f"{path}.{name}")
    for keyword in ("anyOf", "oneOf", "allOf"):
        for inner in schema.get(keyword, ()):
            yield from _non_strict(inner, path)
    for inner in _item_schemas(schema):
        yield from _non_strict(inner, path)


def _item_schemas(schema: Mapping[str, Any]) -> list[Any]:
    """Return the schemas of a list's items. Empty if the items may be anything."""
    first, more = list(schema.get("prefixItems", ())), schema.get("items", True)
    if more is False or (first and schema.get("maxItems", len(first) + 1) <= len(first)):
        return first
    if more is True:
        return []
    return [*first, more]


@functools.lru_cache(maxsize=256)
def say_not_strict(part: str) -> None:
    """Log, once for each part, why the provider isn't asked to enforce a schema."""
    log.warning("strict mode is off, because it can't express %s: the provider enforces nothing, desist checks", part)


def strict_schema(
    schema: Mapping[str, Any], *, optional: Literal["kept", "required", "null"], rules: StrictRules = OPENAI
) -> dict[str, Any]:
    """Return a copy as strict mode accepts it. The schema must have no `non_strict_parts`.

    Parameters:
        optional: what to do with optional properties. "kept": nothing. "required": make them required. "null": make
            them required and nullable; null stands for the default.
        rules: those of the provider.
    """

    def close(node: dict[str, Any]) -> None:
        _express(node)
        _limits_as_words(node, rules)
        if "$ref" in node and len(node) > 1:
            node["anyOf"] = [{"$ref": node.pop("$ref")}]
        if "object" not in types_of(node) and "properties" not in node:
            return
        properties = node.setdefault("properties", {})
        if optional == "null":
            for name in properties.keys() - set(node.get("required", ())):
                properties[name] = _nullable(properties[name])
        if optional != "kept":
            node["required"] = list(properties)
        node["additionalProperties"] = False

    result: dict[str, Any] = rewritten_schema(without_root_ref(schema), close)
    return result


def _express(node: dict[str, Any]) -> None:
    """Replace `oneOf`, a single `allOf`, `prefixItems`, and values without a type."""
    if "oneOf" in node:
        node["anyOf"] = node.pop("oneOf")
    if len(node.get("allOf", ())) == 1:
        node.update({**node.pop("allOf")[0], **node})
    if "prefixItems" in node:
        items = _item_schemas(node)
        del node["prefixItems"]
        different = [item for number, item in enumerate(items) if item not in items[:number]]
        node["items"] = different[0] if len(different) == 1 else {"anyOf": different}
        if len(different) > 1:
            _describe(node, f"items in this order: {json.dumps(items)}")
    values = [node["const"]] if "const" in node else node.get("enum", ())
    if values and "type" not in node:
        types = sorted({_JSON_TYPES[type(value)] for value in values if type(value) in _JSON_TYPES})
        node["type"] = types[0] if len(types) == 1 else types


def _limits_as_words(node: dict[str, Any], rules: StrictRules) -> None:
    """Move limits that the provider doesn't accept into the description."""
    words = []
    for keyword in sorted(node.keys() - _STRUCTURE - {"allOf"}):
        value = node[keyword]
        if (
            keyword in rules.limits
            and (keyword != "format" or value in rules.formats)
            and (keyword != "pattern" or not _ODD_PATTERN.search(value))
        ):
            continue
        del node[keyword]
        if keyword not in _ANNOTATIONS:
            words.append(f"{keyword}: {value if isinstance(value, str) else json.dumps(value, default=str)}")
    if words:
        _describe(node, "; ".join(words))


def _describe(node: dict[str, Any], words: str) -> None:
    node["description"] = f"{node['description']}; {words}" if node.get("description") else words


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    if takes_null(schema):
        return schema
    inner = {keyword: value for keyword, value in schema.items() if keyword != "description"}
    outer = {"description": schema["description"]} if "description" in schema else {}
    return {"anyOf": [inner, {"type": "null"}], **outer}
