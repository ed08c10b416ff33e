"""Convert a tool's return value to text for the model. Called by the agent and by `BoundCall`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from desist.run.events.base import BaseRunOutputEvent
from desist.run.execution.custom_events import emit_custom_event
from desist.run.records.json_values import clean_text, error_text

__all__ = ["result_text"]


def result_text(value: Any) -> str:
    """Return `value` as text: a str unchanged, None as "", the items of an iterator joined, other values as JSON.

    A value without a JSON form becomes its `str()`, or the name of its type if that fails. Lone surrogates are
    replaced, so that the text is valid Unicode. An event is emitted to the stream of the run and becomes "".
    """
    if isinstance(value, str):
        return clean_text(value)
    if value is None:
        return ""
    if isinstance(value, BaseRunOutputEvent):
        emit_custom_event(value)
        return ""
    if isinstance(value, Iterator):
        return "".join(result_text(piece) for piece in value)
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", "replace")
    if isinstance(value, BaseException):
        return clean_text(error_text(value))
    return clean_text(_json(value))


def _json(value: Any) -> str:
    import msgspec

    try:
        text = msgspec.json.encode(value, enc_hook=_plain).decode()
        return msgspec.json.decode(text, type=str) if text.startswith('"') else text
    except UnicodeEncodeError:
        built = msgspec.to_builtins(value, enc_hook=_plain, str_keys=True)
        return built if isinstance(built, str) else json.dumps(built, ensure_ascii=False)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return _text(value)


def _plain(value: Any) -> Any:
    """Return a JSON form for types that msgspec doesn't support: a pydantic model's dump, else `str(value)`."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    return _text(value)


def _text(value: Any) -> str:
    """Return `str(value)`, or the name of its type if its `__str__` raises."""
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__qualname__}>"
