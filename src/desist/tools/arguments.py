"""Parse the JSON text of a tool's arguments. Called by `function`; validation against the schema is in `parameters`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from desist.exceptions import ToolError
from desist.json_schema import types_of, without_root_ref

__all__ = ["decoded", "decoded_arguments", "parse_arguments", "shortened"]

#: How many times a model may have encoded the same JSON.
_MOST_ENCODINGS = 3


def parse_arguments(arguments: str | Mapping[str, Any] | None, tool: str) -> dict[str, Any]:
    """Return the arguments as a dict. Empty text and null mean no arguments.

    Raises:
        ToolError: malformed JSON, a value that isn't an object, or invalid Unicode. The message is for the model.
    """
    if arguments is None:
        return {}
    value: Any = arguments
    for _ in range(_MOST_ENCODINGS):
        if isinstance(value, str):
            value = _read(value, tool)
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return dict(value)
    raise ToolError(f"tool '{tool}': the arguments must be a JSON object, got {shortened(json.dumps(value))}")


def decoded(text: str) -> Any:
    """Return the object or array in a JSON text, which may be encoded several times; else the text itself."""
    value: Any = text
    for _ in range(_MOST_ENCODINGS):
        if not isinstance(value, str) or not value.lstrip().startswith(("{", "[", '"')):
            break
        try:
            value = json.loads(value, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            break
    return value if isinstance(value, dict | list) else text


def decoded_arguments(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with JSON texts parsed where a JSON schema wants an object or an array, and no text."""
    definitions = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    properties = schema.get("properties", {})
    return {
        name: decoded(value)
        if isinstance(value, str) and not _takes_text(properties.get(name, {}), definitions)
        else value
        for name, value in arguments.items()
    }


def _takes_text(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> bool:
    schema = without_root_ref({**schema, **definitions})
    choices = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if choices:
        return any(_takes_text(one, definitions) for one in choices)
    types = types_of(schema)
    return "string" in types or not {"object", "array", "null"} & set(types)


def _read(text: str, tool: str) -> Any:
    if not text.strip():
        return None
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        if "\\u" in text or not text.isascii():
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ToolError(f"tool '{tool}': the arguments hold half a surrogate pair, which isn't Unicode text") from error
    except (ValueError, RecursionError) as error:
        shown = shortened(ascii(text))
        raise ToolError(f"tool '{tool}': the arguments aren't valid JSON ({error}): {shown}") from error
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} isn't JSON")


def shortened(text: str, limit: int = 120) -> str:
    """Return `text` shortened to about `limit` characters by cutting its middle."""
    return text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-limit // 3 :]}"
