"""Structured output for the Messages API. Called by `claude`.

The API accepts closed schemas without limits on values. Limits are moved to the descriptions for the model, and are
checked when the response is parsed. A schema that can't be closed is described to the model as text.
"""

from __future__ import annotations

import json
from typing import Any

from desist.json_schema import non_strict_parts, rewritten_schema, strict_schema
from desist.models.http.json_schema import output_schema

__all__ = ["format_instructions", "output_format"]

_LIMITS = (
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "uniqueItems",
)


def output_format(output_type: type[Any] | dict[str, Any] | None) -> dict[str, Any] | None:
    """Return `output_config.format` for a type or a JSON schema, or None if only a prompt can request it.

    Raises:
        ConfigurationError: no JSON schema can be made of it.
    """
    schema = _schema(output_type)
    if schema is None or any(non_strict_parts(schema, "")):
        return None
    closed = strict_schema(schema, optional="kept")
    return {"type": "json_schema", "schema": rewritten_schema(closed, _limits_as_words)}


def format_instructions(output_type: type[Any] | dict[str, Any] | None) -> str | None:
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


def _schema(output_type: type[Any] | dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the schema, None where any JSON object or text will do. OpenAI's ways to say it are understood too."""
    if output_type is None:
        return None
    if isinstance(output_type, dict) and output_type.get("type") in ("text", "json_object"):
        return None
    if isinstance(output_type, dict) and isinstance(output_type.get("json_schema"), dict):
        output_type = dict(output_type["json_schema"].get("schema") or {})
    return output_schema(output_type).schema


def _limits_as_words(node: dict[str, Any]) -> None:
    limits = [f"{keyword}: {node.pop(keyword)}" for keyword in list(node) if keyword in _LIMITS]
    if limits:
        node["description"] = "; ".join([node["description"], *limits] if node.get("description") else limits)
