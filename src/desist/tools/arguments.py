"""Parse the JSON text of a tool's arguments. Called by `function`; validation against the schema is in `parameters`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from desist.exceptions import ToolError

__all__ = ["parse_arguments", "shortened"]


def parse_arguments(arguments: str | Mapping[str, Any] | None, tool: str) -> dict[str, Any]:
    """Return the arguments as a dict. Empty text and null mean no arguments.

    Raises:
        ToolError: malformed JSON, a value that isn't an object, or invalid Unicode. The message is for the model.
    """
    if arguments is None:
        return {}
    value = _read(arguments, tool) if isinstance(arguments, str) else dict(arguments)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ToolError(f"tool '{tool}': the arguments must be a JSON object, got {shortened(json.dumps(value))}")
    return value


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
