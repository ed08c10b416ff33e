"""Encode an answer of the Messages API. Called by `desist.testing.provider.api`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from desist.testing.provider.http11 import named_event
from desist.testing.provider.replies import Call, Reply, split_words

__all__ = ["MessagesEncoder", "error_body"]

_ERRORS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_TEXT = (
    b'event: content_block_delta\ndata: {"type": "content_block_delta", "index": %d, '
    b'"delta": {"type": "text_delta", "text": %b}}\n\n'
)
_SIGNATURE = "signed by the loopback"


def error_body(status: int, message: str) -> bytes:
    """Return the JSON body of an error, in Anthropic's format."""
    usual = "api_error" if status >= 500 else "invalid_request_error"
    kind = "overloaded_error" if status == 529 else _ERRORS.get(status, usual)
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()


class MessagesEncoder:
    """Encodes one answer as a message."""

    def __init__(self, index: int, request: Mapping[str, Any], reply: Reply) -> None:
        self._reply = reply
        base = {"id": f"msg_{index}", "type": "message", "role": "assistant", "model": request.get("model", "")}
        self._base: dict[str, Any] = {**base, "stop_sequence": None}
        contents = [request.get("system")] + [message.get("content") for message in request.get("messages") or ()]
        self._prompt_words = sum(map(_count_words, contents))
        self._blocks = 0

    def first(self) -> bytes:
        usage = {**self._usage(), "output_tokens": 1}
        message = {**self._base, "content": [], "stop_reason": None, "usage": usage}
        return named_event("message_start", {"message": message}) + named_event("ping", {})

    def events(self) -> Iterator[bytes]:
        """Yield the events of each token; a block's start and stop events come with its first and last token."""
        reply = self._reply
        if reply.reasoning:
            yield from self._block({"type": "thinking", "thinking": "", "signature": ""}, self._thoughts())
        if len(reply.texts()):
            yield from self._block({"type": "text", "text": ""}, self._texts())
        for index, call in enumerate(reply.tool_calls):
            yield from self._block({**_call_block(index, call), "input": {}}, self._arguments(call))

    def last(self) -> Iterator[bytes]:
        """Yield the events that end the answer: the stop reason with the usage, and the end marker."""
        usage = {"output_tokens": self._usage()["output_tokens"]}
        delta = {"stop_reason": self._reason(), "stop_sequence": None}
        yield named_event("message_delta", {"delta": delta, "usage": usage})
        yield named_event("message_stop", {})

    def whole(self) -> bytes:
        reply, content = self._reply, []
        if reply.reasoning:
            content.append({"type": "thinking", "thinking": reply.reasoning, "signature": _SIGNATURE})
        if len(reply.texts()):
            content.append({"type": "text", "text": "".join(reply.texts())})
        for index, call in enumerate(reply.tool_calls):
            content.append({**_call_block(index, call), "input": json.loads(call.arguments_text())})
        answer = {**self._base, "content": content, "stop_reason": self._reason(), "usage": self._usage()}
        return json.dumps(answer).encode()

    def _reason(self) -> str:
        return _REASONS.get(self._reply.reason(), self._reply.reason())

    def _usage(self) -> dict[str, Any]:
        usage: dict[str, Any] = {"input_tokens": self._prompt_words, "output_tokens": self._reply.count()}
        return usage | dict(self._reply.usage or {})

    def _block(self, block: dict[str, Any], tokens: Iterator[bytes]) -> Iterator[bytes]:
        before = named_event("content_block_start", {"index": self._blocks, "content_block": block})
        waiting = None
        for token in tokens:
            if waiting is not None:
                yield waiting
            waiting, before = before + token, b""
        stop = named_event("content_block_stop", {"index": self._blocks})
        self._blocks += 1
        yield (waiting or before) + stop

    def _texts(self) -> Iterator[bytes]:
        for text in self._reply.texts():
            yield _TEXT % (self._blocks, json.dumps(text).encode())

    def _thoughts(self) -> Iterator[bytes]:
        words = split_words(self._reply.reasoning or "")
        for number, word in enumerate(words):
            event = self._delta({"type": "thinking_delta", "thinking": word})
            signed = number == len(words) - 1
            yield event + (self._delta({"type": "signature_delta", "signature": _SIGNATURE}) if signed else b"")

    def _arguments(self, call: Call) -> Iterator[bytes]:
        yield b""  # the call itself
        for piece in call.pieces():
            yield self._delta({"type": "input_json_delta", "partial_json": piece})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return named_event("content_block_delta", {"index": self._blocks, "delta": delta})


def _call_block(index: int, call: Call) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id or f"call_{index}_{call.name}", "name": call.name}


def _count_words(content: Any) -> int:
    if isinstance(content, list):
        return sum(len(str(block.get("text") or block.get("content") or "").split()) for block in content)
    return len(str(content or "").split())
