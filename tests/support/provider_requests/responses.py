"""Check requests of the Responses API."""

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

__all__ = ["check_responses_request"]

_ROLES = ("system", "developer", "user", "assistant")


def check_responses_request(body: Mapping[str, Any]) -> None:
    """Check the JSON of a request to `/v1/responses`.

    Raises:
        AssertionError: names the invalid field and the reason.
    """
    check_model(body)
    if "messages" in body:
        raise wrong("messages", "this API calls them input")
    if body.get("instructions") is not None:
        check_text("instructions", body["instructions"])
    items = body.get("input")
    if isinstance(items, str):
        check_text("input", items)
    else:
        _check_items(entries("input", items))
    check_tools(body, _name_of)
    _check_format(mapping("text", body.get("text") or {}).get("format"))


def _check_items(items: list[Any]) -> None:
    calls, thought = ToolCallPairing(check_text), ""
    for number, value in enumerate(items):
        where = f"input[{number}]"
        item = mapping(where, value)
        kind = item.get("type", "message")
        if thought and not (kind in ("reasoning", "function_call") or item.get("role") == "assistant"):
            raise wrong(thought, "reasoning must be followed by the answer or call that came of it")
        thought = where if kind == "reasoning" else ""
        if kind == "function_call_output":
            calls.result(f"{where}.call_id", item.get("call_id"))
            if not isinstance(item.get("output"), str | list):
                raise wrong(f"{where}.output", "must be text or a list of parts")
        elif kind == "function_call":
            calls.call(f"{where}.call_id", item.get("call_id"))
            check_name(f"{where}.name", item.get("name"))
            check_argument_text(f"{where}.arguments", item.get("arguments"))
        else:
            calls.other(where)
            _check_other(where, kind, item)
    calls.other("the end of input")
    if thought:
        raise wrong(thought, "reasoning must be followed by the answer or call that came of it")


def _check_other(where: str, kind: str, item: Mapping[str, Any]) -> None:
    if kind == "reasoning":
        if not isinstance(item.get("summary"), list):
            raise wrong(f"{where}.summary", "must be a list")
        if not (item.get("encrypted_content") or item.get("id")):
            raise wrong(where, "reasoning needs its encrypted content, or its id")
        return
    if kind != "message":
        raise wrong(f"{where}.type", f"{kind!r} is unknown here")
    if item.get("role") not in _ROLES:
        raise wrong(f"{where}.role", f"must be one of {', '.join(_ROLES)}, not {item.get('role')!r}")
    check_content(f"{where}.content", item.get("content"))


def _name_of(where: str, tool: Mapping[str, Any]) -> str | None:
    if tool.get("type") != "function":
        return None
    if "function" in tool:
        raise wrong(where, "name and parameters stand beside type, not in function")
    if tool.get("strict", True):
        check_openai_schema(f"{where}.parameters", tool.get("parameters"))
    return check_name(f"{where}.name", tool.get("name"))


def _check_format(form: Any) -> None:
    if form is None or form.get("type") in ("text", "json_object"):
        return
    if form.get("type") != "json_schema":
        raise wrong("text.format.type", f"{form.get('type')!r} is unknown")
    check_name("text.format.name", form.get("name"))
    check = check_openai_schema if form.get("strict") else check_object_root
    check("text.format.schema", form.get("schema"))
