"""The loopback provider refuses the strict schemas that the real ones refuse, and accepts those that they accept."""

from __future__ import annotations

from typing import Any

import pytest
from provider_requests.strict_schemas import (
    check_anthropic_schema,
    check_object_root,
    check_openai_schema,
)

TEXT: dict[str, Any] = {"type": "string"}


def closed(**properties: Any) -> dict[str, Any]:
    """Return a closed object with these properties, all required."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


NODE = {"$defs": {"n": closed(next={"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]})}}
#: A schema; what OpenAI's check says about it, and Anthropic's. None: it is accepted.
SCHEMAS: list[tuple[dict[str, Any], str | None, str | None]] = [
    (closed(), None, None),
    (closed(a=TEXT), None, None),
    (closed(a={"type": ["string", "null"], "description": "x", "title": "A"}), None, None),
    (closed(a={"enum": ["x", "y"], "type": "string"}, b={"const": 1, "type": "integer"}), None, None),
    (closed(a={"type": "string", "format": "date-time"}), None, None),
    (closed(a={"type": "array", "items": TEXT}), None, None),
    (closed(oneOf=TEXT, default=TEXT, prefixItems=TEXT), None, None),
    ({**closed(a=TEXT), "additionalProperties": True}, "additionalProperties", "additionalProperties"),
    ({**closed(a=TEXT), "required": []}, "must name every property", None),
    (closed(a={}), "must have a type", "must have a type"),
    (closed(a={"type": "object"}), "additionalProperties", "additionalProperties"),
    (closed(a={"oneOf": [TEXT]}), "oneOf", "oneOf"),
    (closed(a={"allOf": [TEXT]}), "allOf", None),
    (closed(a={**TEXT, "default": "x"}), "default", None),
    (closed(a={"type": "array", "prefixItems": [TEXT]}), "prefixItems", "prefixItems"),
    (closed(a={"type": "array"}), "needs items", None),
    (closed(a={"type": "array", "items": TEXT, "uniqueItems": True}), "uniqueItems", "uniqueItems"),
    (closed(a={"type": "array", "items": TEXT, "minItems": 2}), None, "minItems"),
    (closed(a={"type": "integer", "minimum": 1}), None, "minimum"),
    (closed(a={**TEXT, "format": "uri"}), "format", None),
    (closed(a={**TEXT, "format": "binary"}), "format", "format"),
    (closed(a={**TEXT, "pattern": "^a+$"}), None, None),
    (closed(a={**TEXT, "pattern": "^(?!a)"}), "pattern", "pattern"),
    (closed(a={**TEXT, "not": {"const": "a"}}), "not", "not"),
    ({**closed(a={"$ref": "#/$defs/n", "description": "x"}), **NODE}, "$ref can't have", "contain itself"),
    ({**closed(a={"$ref": "#/$defs/n"}), **NODE}, None, "contain itself"),
    ({**closed(a={"$ref": "#/$defs/t"}), "$defs": {"t": TEXT}}, None, None),
    (closed(**{f"p{number}": TEXT for number in range(5001)}), "5000 properties", None),
    ({"type": "array", "items": TEXT}, "the root must be of type 'object'", None),
    ({"anyOf": [closed(), closed(a=TEXT)]}, "the root must be of type 'object'", None),
]


@pytest.mark.parametrize(("schema", "openai", "anthropic"), SCHEMAS, ids=lambda value: str(value)[:50])
def test_strict_schemas(schema: dict[str, Any], openai: str | None, anthropic: str | None) -> None:
    """Each keyword that an API doesn't permit is named; what it documents is accepted."""
    for check, words in ((check_openai_schema, openai), (check_anthropic_schema, anthropic)):
        if words is None:
            check("schema", schema)
        else:
            with pytest.raises(AssertionError) as found:
                check("schema", schema)
            assert words in str(found.value)


def test_a_schema_that_is_not_strict_needs_an_object_as_root() -> None:
    """Everything else is up to the schema."""
    check_object_root("schema", {"type": "object", "properties": {"a": {"oneOf": [TEXT]}}})
    for root in ({"type": "array"}, {"oneOf": [closed()]}, {}, {"type": "object", "anyOf": [closed()]}):
        with pytest.raises(AssertionError, match="root"):
            check_object_root("schema", root)
