"""Structured output for the Messages API. Called by `claude`.

The API accepts closed schemas without limits on values. Limits are moved to the descriptions for the model, and are
checked when the response is parsed. A schema that can't be closed, or contains
itself, is described to the model as text.
"""

from __future__ import annotations

import json
from typing import Any

from desist.json_schema import is_recursive
from desist.models.http.json_schema import requested_schema
from desist.strict_schema import ANTHROPIC, non_strict_parts, say_not_strict, strict_schema

__all__ = ["format_instructions", "output_format", "strict_input_schema"]


def output_format(output_type: Any) -> dict[str, Any] | None:
    """Return `output_config.format` for a type or a JSON schema, or None if only a prompt can request it.

    Raises:
        ConfigurationError: no JSON schema can be made of it.
    """
    schema = _schema(output_type)
    if schema is None or any(non_strict_parts(schema, "")) or is_recursive(schema):
        return None
    plain = isinstance(output_type, dict)
    closed = strict_schema(schema, optional="kept" if plain else "required", rules=ANTHROPIC)
    return {"type": "json_schema", "schema": closed}


def strict_input_schema(function: dict[str, Any]) -> dict[str, Any] | None:
    """Return the schema of a strict tool's arguments, or None if it can't be strict for this API."""
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    part = next(non_strict_parts(schema, function["name"]), None)
    if part or is_recursive(schema):
        say_not_strict(f"the tool {part or function['name'] + ', a type that contains itself'}")
        return None
    return strict_schema(schema, optional="kept", rules=ANTHROPIC)


def format_instructions(output_type: Any) -> str | None:
    """Return the prompt for an output that `output_format` can't describe, or None."""
    if (
        output_type is None
        or (isinstance(output_type, dict) and output_type.get("type") == "text")
        or output_format(output_type)
    ):
        return None
    schema = _schema(output_type)
    if schema is None:
        return "Answer with one JSON object and nothing else."
    return f"Answer with JSON of this schema and nothing else: {json.dumps(schema)}"


def _schema(output_type: Any) -> dict[str, Any] | None:
    """Return the schema, None where any JSON object or text will do. OpenAI's ways to say it are understood too."""
    if output_type is None:
        return None
    if isinstance(output_type, dict) and output_type.get("type") in ("text", "json_object"):
        return None
    return requested_schema(output_type)[1]
