"""Structured output for the two APIs of OpenAI. Called by `chat` and `responses`."""

from __future__ import annotations

from typing import Any

from desist.models.http.json_schema import output_schema

__all__ = ["response_format", "text_format"]

_FORMATS = ("text", "json_object", "json_schema")


def response_format(schema: Any) -> dict[str, Any]:
    """Return the parameter of chat completions for a type, a JSON schema, or the parameter itself.

    Raises:
        ConfigurationError: no JSON schema can be made of it.
    """
    if isinstance(schema, dict) and schema.get("type") in _FORMATS:
        if schema["type"] == "json_schema" and "json_schema" not in schema:  # as the Responses API has it
            return {"type": "json_schema", "json_schema": {k: v for k, v in schema.items() if k != "type"}}
        return schema
    shape = output_schema(schema)
    form = {"name": shape.name, "schema": shape.schema, "strict": shape.strict}
    return {"type": "json_schema", "json_schema": form}


def text_format(schema: Any) -> dict[str, Any]:
    """Return the same for `text.format` of the Responses API, where the schema isn't nested."""
    form = response_format(schema)
    return {"type": "json_schema", **form["json_schema"]} if "json_schema" in form else form
