"""Strict schemas, for tools and for structured output."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest

from desist.json_schema import non_strict_parts, strict_schema


class Node(pydantic.BaseModel):
    """A type that has itself in it, described, so that its `$ref` has neighbours."""

    child: Node = pydantic.Field(None, description="the next")  # type: ignore[assignment]
    other: list[Node] = []


def test_a_recursive_type_is_strict() -> None:
    """A described recursive type ends; the root is an object, and nothing stands beside a `$ref`."""
    schema = strict_schema(pydantic.TypeAdapter(Node).json_schema(), optional="required")
    assert (schema["type"], schema["required"]) == ("object", ["child", "other"])
    node = schema["$defs"]["Node"]
    assert node["properties"]["child"] == {"anyOf": [{"$ref": "#/$defs/Node"}], "description": "the next"}
    assert node["additionalProperties"] is False and schema["additionalProperties"] is False


def test_a_null_for_a_described_reference() -> None:
    """A reference with a default takes null, and keeps its description outside."""
    schema = strict_schema(pydantic.TypeAdapter(Node).json_schema(), optional="null")["$defs"]["Node"]
    assert schema["properties"]["child"]["description"] == "the next"
    assert {"type": "null"} in schema["properties"]["child"]["anyOf"]


@pytest.mark.parametrize(
    ("annotation", "found"),
    [
        (dict[str, int], ["x: a dict with arbitrary keys"]),
        (list[Any], ["x: a value of any type"]),
        (Node, []),
        (pydantic.create_model("Empty"), []),
        (pydantic.create_model("Keyword", additionalProperties=(int, 1)), []),
    ],
)
def test_what_cannot_be_strict(annotation: Any, found: list[str]) -> None:
    """Free keys and untyped values are found; a property may be called like a keyword."""
    assert list(non_strict_parts(pydantic.TypeAdapter(annotation).json_schema(), "x")) == found
