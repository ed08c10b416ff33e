"""What chat completions take. Called by the face of this folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from desist.testing.requests.rules import (
    Calls,
    check_argument_text,
    check_closed,
    check_model,
    check_name,
    check_names,
    check_text,
    entries,
    mapping,
    wrong,
)

__all__ = ["check_chat_request"]

_ROLES = ("system", "developer", "user", "assistant", "tool")


def check_chat_request(body: Mapping[str, Any]) -> None:
    """Check the JSON of a request to `/v1/chat/completions`.

    Raises:
        AssertionError: says what is wrong, and where.
    """
    check_model(body)
    calls = Calls(check_text)
    for number, given in enumerate(entries("messages", body.get("messages"))):
        where = f"messages[{number}]"
        message = mapping(where, given)
        if message.get("role") == "tool":
            calls.result(f"{where}.tool_call_id", message.get("tool_call_id"))
            _check_content(f"{where}.content", message.get("content"), may_be_empty=True)
            continue
        calls.other(where)
        _check_message(where, message, calls)
    calls.other("the end of messages")
    _check_tools(body)
    if body.get("stream_options") is not None and not body.get("stream"):
        raise wrong("stream_options", "only with stream: true")


def _check_message(where: str, message: Mapping[str, Any], calls: Calls) -> None:
    if message.get("role") not in _ROLES:
        raise wrong(f"{where}.role", f"must be one of {', '.join(_ROLES)}, not {message.get('role')!r}")
    if message.get("tool_calls") is None:
        _check_content(f"{where}.content", message.get("content"), may_be_empty=message["role"] != "assistant")
        return
    if message["role"] != "assistant":
        raise wrong(where, "only an assistant calls tools")
    if message.get("content") is not None:
        _check_content(f"{where}.content", message["content"])
    for number, given in enumerate(entries(f"{where}.tool_calls", message["tool_calls"])):
        place = f"{where}.tool_calls[{number}]"
        call = mapping(place, given)
        if call.get("type") != "function":
            raise wrong(f"{place}.type", "must be 'function'")
        calls.call(f"{place}.id", call.get("id"))
        function = mapping(f"{place}.function", call.get("function"))
        check_name(f"{place}.function.name", function.get("name"))
        check_argument_text(f"{place}.function.arguments", function.get("arguments"))


def _check_content(where: str, content: Any, *, may_be_empty: bool = False) -> None:
    if isinstance(content, list):
        for number, given in enumerate(entries(where, content)):
            part = mapping(f"{where}[{number}]", given)
            check_text(f"{where}[{number}].type", part.get("type"))
            if part["type"] == "text":
                check_text(f"{where}[{number}].text", part.get("text"))
    elif not (may_be_empty and isinstance(content, str)):
        check_text(where, content)


def _check_tools(body: Mapping[str, Any]) -> None:
    tools = body.get("tools")
    if tools is None:
        if body.get("tool_choice") is not None:
            raise wrong("tool_choice", "only with tools")
        return
    names = []
    for number, given in enumerate(entries("tools", tools)):
        tool = mapping(f"tools[{number}]", given)
        function = mapping(f"tools[{number}].function", tool.get("function"))
        names.append(check_name(f"tools[{number}].function.name", function.get("name")))
        if function.get("strict"):
            check_closed(f"tools[{number}].function.parameters", function.get("parameters"))
    check_names("tools", names)
