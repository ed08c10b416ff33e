"""Check requests of the chat completions API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from provider_requests.rules import (
    ToolCallPairing,
    check_argument_text,
    check_content,
    check_model,
    check_name,
    check_text,
    check_tools,
    entries,
    mapping,
    wrong,
)
from provider_requests.strict_schemas import check_object_root, check_openai_schema

__all__ = ["check_chat_request"]

_ROLES = ("system", "developer", "user", "assistant", "tool")


def check_chat_request(body: Mapping[str, Any]) -> None:
    """Check the JSON of a request to `/v1/chat/completions`.

    Raises:
        AssertionError: names the invalid field and the reason.
    """
    check_model(body)
    calls = ToolCallPairing(check_text)
    for number, value in enumerate(entries("messages", body.get("messages"))):
        where = f"messages[{number}]"
        message = mapping(where, value)
        if message.get("role") == "tool":
            calls.result(f"{where}.tool_call_id", message.get("tool_call_id"))
            _check_content(where, message)
            continue
        calls.other(where)
        _check_message(where, message, calls)
    calls.other("the end of messages")
    check_tools(body, _name_of)
    form = mapping("response_format", body.get("response_format") or {}).get("json_schema")
    if form is not None:
        check_name("response_format.json_schema.name", form.get("name"))
        check = check_openai_schema if form.get("strict") else check_object_root
        check("response_format.json_schema.schema", form.get("schema"))
    if body.get("stream_options") is not None and not body.get("stream"):
        raise wrong("stream_options", "only with stream: true")


def _check_message(where: str, message: Mapping[str, Any], calls: ToolCallPairing) -> None:
    if message.get("role") not in _ROLES:
        raise wrong(f"{where}.role", f"must be one of {', '.join(_ROLES)}, not {message.get('role')!r}")
    if message.get("tool_calls") is None:
        _check_content(where, message)
        return
    if message["role"] != "assistant":
        raise wrong(where, "only an assistant calls tools")
    if message.get("content") is not None:
        check_content(f"{where}.content", message["content"])
    for number, value in enumerate(entries(f"{where}.tool_calls", message["tool_calls"])):
        call_where = f"{where}.tool_calls[{number}]"
        call = mapping(call_where, value)
        if call.get("type") != "function":
            raise wrong(f"{call_where}.type", "must be 'function'")
        calls.call(f"{call_where}.id", call.get("id"))
        function = mapping(f"{call_where}.function", call.get("function"))
        check_name(f"{call_where}.function.name", function.get("name"))
        check_argument_text(f"{call_where}.function.arguments", function.get("arguments"))


def _check_content(where: str, message: Mapping[str, Any]) -> None:
    """Check a content. The text of an assistant must not be blank; other texts may be."""
    if not isinstance(message.get("content"), str) or message["role"] == "assistant":
        check_content(f"{where}.content", message.get("content"))


def _name_of(where: str, tool: Mapping[str, Any]) -> str:
    function = mapping(f"{where}.function", tool.get("function"))
    if function.get("strict"):
        check_openai_schema(f"{where}.function.parameters", function.get("parameters"))
    return check_name(f"{where}.function.name", function.get("name"))
