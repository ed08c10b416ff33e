"""Structured output: converts a type or a JSON schema to a schema for providers.

Called by the models' `structured_output` modules, which put it into their request. What strict mode can't express, such
as `dict[str, int]`, stays a plain schema. A value that is no object is wrapped in one, which the agent unwraps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from desist.json_schema import wrapped_schema
from desist.strict_schema import non_strict_parts, say_not_strict, strict_schema
from desist.value_type import ValueType

__all__ = ["OutputSchema", "output_schema", "requested_schema"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSchema:
    """The requested format of a response."""

    name: str  #: letters, digits, `_` and `-`
    schema: dict[str, Any]
    strict: bool  #: whether the schema is closed, with every property required


def output_schema(output_type: Any) -> OutputSchema:
    """Return the shape of a type that pydantic knows, or of a JSON schema.

    Raises:
        ConfigurationError: no JSON schema can be made of it.
    """
    name, schema = requested_schema(output_type)
    strict = not isinstance(output_type, dict)
    if strict and (part := next(non_strict_parts(schema, name), None)):
        say_not_strict(part)
        strict = False
    return OutputSchema(
        name=re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64] or "answer",
        schema=strict_schema(schema, optional="required") if strict else schema,
        strict=strict,
    )


def requested_schema(output_type: Any) -> tuple[str, dict[str, Any]]:
    """Return the name and the schema of a type, wrapped if it isn't an object."""
    given = ValueType(output_type, "output_schema=")
    return given.name, wrapped_schema(given.schema) if given.is_wrapped else given.schema
