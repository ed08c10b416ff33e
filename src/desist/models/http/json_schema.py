"""Structured output: converts a Python type or a JSON schema to a schema for providers.

Called by the models' `schema` modules, which put it into their request. A type with free keys (`dict[str, int]`) or
values of any type can't be strict: it stays a plain schema.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from desist.exceptions import ConfigurationError
from desist.json_schema import non_strict_parts, strict_schema

__all__ = ["OutputSchema", "output_schema"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSchema:
    """The requested format of a response."""

    name: str  #: letters, digits, `_` and `-`
    schema: dict[str, Any]
    strict: bool  #: whether the schema is closed, with every property required


def output_schema(output_type: type[Any] | dict[str, Any]) -> OutputSchema:
    """Return the shape of a pydantic model (or any type that pydantic knows), or of a JSON schema.

    Raises:
        ConfigurationError: no JSON schema can be made of it.
    """
    if isinstance(output_type, dict):
        return _named(str(output_type.get("title") or "answer"), output_type, strict=False)
    schema = _schema_of(output_type)
    strict = not any(non_strict_parts(schema, output_type.__name__))
    return _named(output_type.__name__, strict_schema(schema, optional="required") if strict else schema, strict=strict)


def _named(name: str, schema: dict[str, Any], *, strict: bool) -> OutputSchema:
    return OutputSchema(name=re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64], schema=schema, strict=strict)


def _schema_of(output_type: type[Any]) -> dict[str, Any]:
    import pydantic

    try:
        return pydantic.TypeAdapter(output_type).json_schema()
    except pydantic.errors.PydanticUserError as error:
        raise ConfigurationError(f"{output_type!r} has no JSON schema: {error}") from None
