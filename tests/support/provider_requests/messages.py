"""Check requests of the Messages API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from provider_requests.rules import (
    ToolCallPairing,
    check_content,
    check_model,
    check_name,
    check_text,
    check_tools,
    entries,
    mapping,
    wrong,
)
from provider_requests.strict_schemas import check_anthropic_schema

__all__ = ["check_messages_request"]

_BLOCKS = {
    "user": ("text", "image", "document", "tool_result"),
    "assistant": ("text", "thinking", "redacted_thinking", "tool_use"),
}


def check_messages_request(body: Mapping[str, Any]) -> None:
    """Check the JSON of a request to `/v1/messages`.

    Raises:
        AssertionError: names the invalid field and the reason.
    """
    check_model(body)
    limit = body.get("max_tokens")
    if not isinstance(limit, int) or limit < 1:
        raise wrong("max_tokens", f"must be a whole number of at least 1, not {limit!r}")
    if body.get("system") is not None:
        check_content("system", body["system"])
    messages = entries("messages", body.get("messages"))
    calls, expected_role = ToolCallPairing(check_name), "user"
    for number, value in enumerate(messages):
        where = f"messages[{number}]"
        message = mapping(where, value)
        if message.get("role") != expected_role:
            raise wrong(
                f"{where}.role",
                f"must be {expected_role!r}: roles take turns, 'user' first; not {message.get('role')!r}",
            )
        _check_content(where, message, calls)
        expected_role = "assistant" if expected_role == "user" else "user"
    calls.other("the end of messages")
    _check_end(len(messages) - 1, messages[-1])
    _check_thinking(body, messages)
    check_tools(body, _name_of)
    if body.get("tools") is None and calls.any:
        raise wrong("tools", "must be defined where tools were called")
    if body.get("tool_choice") is not None:
        mapping("tool_choice", body["tool_choice"])
    form = mapping("output_config", body.get("output_config") or {}).get("format")
    if form is not None:
        check_anthropic_schema("output_config.format.schema", mapping("output_config.format", form).get("schema"))


def _check_content(where: str, message: Mapping[str, Any], calls: ToolCallPairing) -> None:
    content = message.get("content")
    if isinstance(content, str):
        calls.other(where)
        check_text(f"{where}.content", content)
        return
    for number, value in enumerate(entries(f"{where}.content", content)):
        block_where = f"{where}.content[{number}]"
        block = mapping(block_where, value)
        kinds = _BLOCKS[message["role"]]
        if block.get("type") not in kinds:
            raise wrong(
                f"{block_where}.type", f"{message['role']} may have {', '.join(kinds)}, not {block.get('type')!r}"
            )
        _check_block(block_where, block, calls)
    if message["role"] == "user":
        calls.other(f"the end of {where}")


def _check_block(where: str, block: Mapping[str, Any], calls: ToolCallPairing) -> None:
    kind = block["type"]
    if kind == "tool_result":
        calls.result(f"{where}.tool_use_id", block.get("tool_use_id"))
        if not isinstance(block.get("content", ""), str | list):
            raise wrong(f"{where}.content", "must be text or a list of blocks")
    elif kind == "tool_use":
        calls.call(f"{where}.id", block.get("id"))
        check_name(f"{where}.name", block.get("name"))
        mapping(f"{where}.input", block.get("input"))
    else:
        calls.other(where)
        if kind == "text":
            check_text(f"{where}.text", block.get("text"))
        if kind == "thinking":
            check_text(f"{where}.signature", block.get("signature"))


def _check_end(number: int, last: Mapping[str, Any]) -> None:
    """Check the last message: an answer to be continued must not end in white space."""
    content = last["content"]
    text = content if isinstance(content, str) else content[-1].get("text", "")
    if last["role"] == "assistant" and text != text.rstrip():
        raise wrong(f"messages[{number}].content", f"a last answer must not end in white space: {text[-20:]!r}")


def _check_thinking(body: Mapping[str, Any], messages: list[Any]) -> None:
    """Check that, with thinking enabled, thinking precedes the tool calls of the last answer."""
    thinking = mapping("thinking", body.get("thinking") or {})
    if thinking.get("type") != "enabled":
        return
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int) or not 1024 <= budget < body["max_tokens"]:
        raise wrong("thinking.budget_tokens", f"must be from 1024 to below max_tokens, not {budget!r}")
    for number in range(len(messages) - 1, -1, -1):
        content = messages[number]["content"]
        if messages[number]["role"] == "assistant" and isinstance(content, list):
            kinds = [block["type"] for block in content]
            if "tool_use" in kinds and kinds[0] not in ("thinking", "redacted_thinking"):
                raise wrong(f"messages[{number}].content[0]", f"must be thinking before calls, not {kinds[0]}")
            return


def _name_of(where: str, tool: Mapping[str, Any]) -> str:
    schema = mapping(f"{where}.input_schema", tool.get("input_schema"))
    if schema.get("type") != "object":
        raise wrong(f"{where}.input_schema.type", "must be 'object'")
    if tool.get("strict"):
        check_anthropic_schema(f"{where}.input_schema", schema)
    return check_name(f"{where}.name", tool.get("name"))
