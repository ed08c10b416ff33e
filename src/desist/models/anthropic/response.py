"""Reads responses of the Messages API.

`MessagesParser` is the `ResponseParser` of `desist.models.http.response_reader` for them. Must know nothing of
connections.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from desist.exceptions import ModelResponseError
from desist.models.anthropic.request import PROVIDER
from desist.models.http.decoder import Decoder
from desist.models.http.errors import reported_error
from desist.models.http.text import truncate
from desist.models.response import ModelResponse, ToolCallDelta, Usage

__all__ = ["MessagesParser"]

_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}


class _OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None


class _Block(msgspec.Struct):
    """A block of content, or a piece of one."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Message(msgspec.Struct):
    content: list[_Block] | None = None
    usage: _Usage | None = None
    stop_reason: str | None = None


class _Event(_Message):
    """A stream event or, with the fields of `_Message`, a whole response."""

    type: str | None = None
    index: int | None = None
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Block | None = None
    error: Any = None


_decode = Decoder(_Event, "an event of the Messages API")


class MessagesParser:
    """Converts events to pieces, and collects what is known only at the end."""

    __slots__ = ("_counts", "_thinking", "complete", "done")

    def __init__(self) -> None:
        self.complete = False
        self.done = False
        self._counts = _Usage()
        self._thinking: dict[int, dict[str, Any]] = {}  # blocks to send with the next request

    def take(self, event: bytes) -> ModelResponse | None:
        """Return the piece in a stream event, or None."""
        decoded = _decode(event)
        kind = decoded.type
        if kind == "content_block_delta":
            return None if decoded.delta is None else self._piece(decoded.index or 0, decoded.delta)
        if kind == "content_block_start":
            return None if decoded.content_block is None else self._begin(decoded.index or 0, decoded.content_block)
        if kind == "message_start":
            self._count(decoded.message.usage if decoded.message else None)
        elif kind == "message_delta":
            self._count(decoded.usage)
            return self._end(decoded.delta.stop_reason if decoded.delta else None)
        elif kind == "message_stop":
            self.done = self.complete = True
        elif decoded.error:
            raise reported_error(decoded.error)
        return None

    def whole(self, payload: bytes) -> Iterator[ModelResponse]:
        """Yield the pieces of a whole response."""
        decoded = _decode(payload)
        if decoded.error:
            raise reported_error(decoded.error)
        if decoded.content is None:
            raise ModelResponseError(f"the server's response has no content: {truncate(payload)}")
        self._count(decoded.usage)
        for index, block in enumerate(decoded.content):
            piece = self._begin(index, block)
            if piece is not None:
                yield piece
        yield self._end(decoded.stop_reason) or ModelResponse(finish_reason="stop")

    def rest(self) -> ModelResponse | None:
        """Return the usage, and the thinking to send with the next request."""
        blocks = [block for _, block in sorted(self._thinking.items()) if "signature" in block or "data" in block]
        return ModelResponse(usage=_usage(self._counts), provider_data={PROVIDER: blocks} if blocks else None)

    def _begin(self, index: int, block: _Block) -> ModelResponse | None:
        if block.type == "tool_use":
            arguments = json.dumps(block.input) if block.input else ""
            delta = ToolCallDelta(index=index, id=block.id, name=block.name, arguments=arguments)
            return ModelResponse(tool_calls=[delta])
        if block.type == "redacted_thinking":
            self._thinking[index] = {"type": "redacted_thinking", "data": block.data or ""}
            return None
        if block.type == "thinking":
            self._thinking[index] = {"type": "thinking", "thinking": ""}
        return self._piece(index, block)

    def _piece(self, index: int, piece: _Block) -> ModelResponse | None:
        if piece.text:
            return ModelResponse(content=piece.text)
        if piece.partial_json:
            return ModelResponse(tool_calls=[ToolCallDelta(index=index, arguments=piece.partial_json)])
        block = self._thinking.get(index)
        if block is not None and piece.signature:
            block["signature"] = block.get("signature", "") + piece.signature
        if block is not None and piece.thinking:
            block["thinking"] += piece.thinking
            return ModelResponse(reasoning_content=piece.thinking)
        return None

    def _end(self, reason: str | None) -> ModelResponse | None:
        if reason is None:
            return None
        self.complete = True
        return ModelResponse(finish_reason=_REASONS.get(reason, reason))

    def _count(self, usage: _Usage | None) -> None:
        """Update the counts. Each is a total; a missing one keeps its earlier value."""
        for name in _Usage.__struct_fields__:
            value = getattr(usage, name, None)
            if value is not None:
                setattr(self._counts, name, value)


def _usage(usage: _Usage) -> Usage:
    """Return the usage. The API counts cached input separately; `input_tokens` here includes it."""
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    input_tokens, output_tokens = (usage.input_tokens or 0) + read + written, usage.output_tokens or 0
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=input_tokens + output_tokens,
        reasoning_tokens=(usage.output_tokens_details or _OutputDetails()).thinking_tokens or 0,
        cache_read_tokens=read,
        cache_write_tokens=written,
    )
