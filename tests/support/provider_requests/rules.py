"""The rules that the three APIs share: texts, names, tools, and one result for each tool call."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = [
    "ToolCallPairing",
    "check_argument_text",
    "check_content",
    "check_model",
    "check_name",
    "check_text",
    "check_tools",
    "entries",
    "mapping",
    "wrong",
]

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")


def wrong(where: str, what: str) -> AssertionError:
    """Return the error for an invalid field."""
    return AssertionError(f"{where}: {what}")


def mapping(where: str, value: Any) -> Mapping[str, Any]:
    """Return `value` if it is a JSON object."""
    if not isinstance(value, Mapping):
        raise wrong(where, f"must be an object, not {value!r:.80}")
    return value


def entries(where: str, value: Any) -> list[Any]:
    """Return `value` if it is a list that isn't empty."""
    if not isinstance(value, list) or not value:
        raise wrong(where, f"must be a list with at least one entry, not {value!r:.80}")
    return value


def check_model(body: Mapping[str, Any]) -> None:
    """Check that a request names its model."""
    check_text("model", body.get("model"))


def check_text(where: str, value: Any) -> str:
    """Return `value` if it is text that isn't blank."""
    if not isinstance(value, str) or not value.strip():
        raise wrong(where, f"must be text that isn't blank, not {value!r:.80}")
    return value


def check_name(where: str, value: Any) -> str:
    """Return `value` if it is valid as the name of a tool or as an id."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise wrong(where, f"must be 1 to 128 letters, digits, '_' or '-', not {value!r:.80}")
    return value


def check_content(where: str, content: Any) -> None:
    """Check a content: a text, or a list of parts; no text may be blank."""
    if not isinstance(content, list):
        check_text(where, content)
        return
    for number, value in enumerate(entries(where, content)):
        part = mapping(f"{where}[{number}]", value)
        if "text" in part or check_text(f"{where}[{number}].type", part.get("type")) == "text":
            check_text(f"{where}[{number}].text", part.get("text"))


def check_tools(body: Mapping[str, Any], name_of: Callable[[str, Mapping[str, Any]], str | None]) -> None:
    """Check that tool names are unique, and that `tool_choice` isn't set without tools.

    Parameters:
        name_of: checks the tool at a position, and returns its name.
    """
    if body.get("tools") is None:
        if body.get("tool_choice") is not None:
            raise wrong("tool_choice", "only with tools")
        return
    seen: set[str | None] = set()
    for number, value in enumerate(entries("tools", body["tools"])):
        name = name_of(f"tools[{number}]", mapping(f"tools[{number}]", value))
        if name is not None and name in seen:
            raise wrong("tools", f"two tools are called {name!r}")
        seen.add(name)


def check_argument_text(where: str, value: Any) -> None:
    """Check the arguments of a call: the JSON text of an object."""
    try:
        arguments = json.loads(value)
    except (TypeError, ValueError):
        raise wrong(where, f"must be JSON text, not {value!r:.80}") from None
    if not isinstance(arguments, dict):
        raise wrong(where, f"must be the JSON text of an object, not {value!r:.80}")


class ToolCallPairing:
    """Checks the tool calls of a conversation: unique ids, and one result each, right after the calls of the turn."""

    def __init__(self, check_id: Callable[[str, Any], str]) -> None:
        self._check_id = check_id
        self._seen: set[str] = set()
        self._open: dict[str, str] = {}  # the position of each unanswered call by its id
        self._answering = False  # whether a result of the current turn was seen

    @property
    def any(self) -> bool:
        """Whether the conversation has any call."""
        return bool(self._seen)

    def call(self, where: str, call_id: Any) -> None:
        """Record a call."""
        self._check_id(where, call_id)
        if call_id in self._seen:
            raise wrong(where, f"the id {call_id!r} was used by a call before")
        if self._open and self._answering:
            raise self._unanswered(where)
        self._seen.add(call_id)
        self._open[call_id] = where
        self._answering = False

    def result(self, where: str, call_id: Any) -> None:
        """Record the result of a call."""
        if call_id not in self._open:
            known = call_id in self._seen
            raise wrong(where, f"{'a second' if known else 'an orphan'} result for the call {call_id!r}")
        del self._open[call_id]
        self._answering = True

    def other(self, where: str) -> None:
        """Record any other item, or the end: no result may be missing."""
        if self._open:
            raise self._unanswered(where)

    def _unanswered(self, where: str) -> AssertionError:
        call_id, call_where = next(iter(self._open.items()))
        return wrong(where, f"the call {call_id!r} at {call_where} has no result before this")
