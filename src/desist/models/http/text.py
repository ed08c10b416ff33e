"""Clean text for requests, and shorten text for error messages."""

from __future__ import annotations

from typing import Any

from desist.run.records.json_values import clean_text

__all__ = ["clean", "clean_text", "truncate"]

SHOWN = 300  #: characters of a response in an error message


def clean(value: Any) -> Any:
    """Return a JSON value with all strings cleaned, including keys."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean(key): clean(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [clean(entry) for entry in value]
    return value


def truncate(received: bytes | str) -> str:
    """Return the beginning of a text on one line, for an error message."""
    if isinstance(received, bytes):
        received = received[: SHOWN * 4].decode(errors="replace")
    line = " ".join(received[: SHOWN * 4].split())
    return line if len(line) <= SHOWN else line[:SHOWN] + "…"
