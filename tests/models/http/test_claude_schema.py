"""Structured output of Claude: what is asked for in the API's own way, and what in words."""

from __future__ import annotations

import enum
from typing import Any

import pydantic
import pytest
from http_dialects import KEY
from http_requests import asking
from provider_requests import check_messages_request

from desist.models.anthropic import Claude
from desist.models.base import ModelRequest


def sent_by(request: ModelRequest) -> dict[str, Any]:
    """Return the JSON that is sent for a request; it is valid."""
    body = Claude("m", api_key=KEY)._body(request)
    check_messages_request(body)
    return body


class Colour(enum.Enum):
    red = "red"


class Inner(pydantic.BaseModel):
    minimum: int = pydantic.Field(default=1, ge=1, le=9, description="a number")
    colour: Colour | None = None


class Answer(pydantic.BaseModel):
    inner: Inner
    words: list[str] = pydantic.Field(max_length=3)


def test_a_pydantic_class_is_sent_as_a_closed_schema() -> None:
    """Every object is closed; limits, which the API doesn't take, are told in words; names aren't taken for limits."""
    form = sent_by(asking(response_format=Answer))["output_config"]["format"]
    assert form["type"] == "json_schema"
    schema = form["schema"]
    inner = schema["$defs"]["Inner"]
    assert inner["properties"]["minimum"]["description"] == "a number; maximum: 9; minimum: 1"
    assert "maxItems" not in schema["properties"]["words"]
    assert schema["properties"]["words"]["description"] == "maxItems: 3"
    assert schema["$defs"]["Colour"]["enum"] == ["red"]
    assert (inner["required"], schema["required"]) == (["minimum", "colour"], ["inner", "words"])


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"type": "json_object"}, "one JSON object"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "JSON of this schema"),
        ({"type": "text"}, None),
    ],
)
def test_what_cant_be_closed_is_asked_for_in_words(form: dict[str, Any], words: str | None) -> None:
    """A type with free keys, or just JSON, is asked for in the system message."""
    body = sent_by(asking(response_format=form))
    assert "output_config" not in body
    assert (words in body["system"]) if words else ("system" not in body)


def test_openai_s_way_to_ask_for_a_schema_is_understood() -> None:
    """A `json_schema` format of chat completions gives the same schema."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    form = sent_by(asking(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}))
    assert form["output_config"]["format"]["schema"] == {**schema, "additionalProperties": False}
