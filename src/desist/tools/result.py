"""Turns what a tool returned into the text that a model reads. Called by the agent and by `FunctionCall`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from desist.run.events.base import BaseRunOutputEvent
from desist.run.execution.custom_events import emit_custom_event
from desist.run.records.json_values import clean_text

__all__ = ["result_text"]


def result_text(value: Any) -> str:
    """Return `value` as text: a str as it is, None as "", an iterator's pieces joined, everything else as JSON.

    What has no JSON form becomes its `str()`. The text is always valid Unicode: lone surrogates are replaced. An event
    is no text: it goes to whoever reads the run.
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
        return clean_text(str(value) or type(value).__name__)
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
        return str(value)


def _plain(value: Any) -> Any:
    """Return a JSON form of what msgspec doesn't know: pydantic models, and anything as its `str()`."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    return str(value)
