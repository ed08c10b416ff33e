"""Reads chat completions of OpenAI-compatible servers.

`ChatResponseParser` is the `ResponseParser` of `desist.models.http.response_reader` for them. Must know nothing of
connections.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from desist.exceptions import ModelError, ModelResponseError
from desist.models.http.decoder import Decoder
from desist.models.http.errors import reported_error
from desist.models.http.text import truncate
from desist.models.response import ModelResponse, ToolCallDelta, Usage

__all__ = ["ChatResponseParser", "Chunk", "decode", "error_of"]

DONE = b"[DONE]"


class _Part(msgspec.Struct):
    text: str | None = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _Call(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | list[_Part] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None  # the name of some servers
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    index: int | None = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None
    error: Any = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


class Chunk(msgspec.Struct):
    """A chunk of a streamed response, a whole response, or an error."""

    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None
    object: str | None = None
    message: Any = None
    code: Any = None


decode = Decoder(Chunk, "a chat completion")


def error_of(chunk: Chunk) -> ModelError | None:
    """Return the error in a chunk, or None."""
    error = chunk.error
    if not error and chunk.choices:
        error = next((choice.error for choice in chunk.choices if choice.error), None)
    if not error and chunk.object == "error":
        error = {"message": chunk.message, "code": chunk.code}
    if not error:
        return None
    return reported_error(error)


def _without_error(payload: bytes) -> Chunk:
    chunk = decode(payload)
    error = error_of(chunk)
    if error is not None:
        raise error
    return chunk


class ChatResponseParser:
    """Converts chunks to pieces, and collects usage, refusal and completeness for the end."""

    __slots__ = ("_call", "_call_ids", "complete", "done", "refused", "usage")

    def __init__(self) -> None:
        self.complete = False  #: a finish reason was received
        self.done = False  #: the end mark was received
        self.refused = False
        self.usage: Usage | None = None
        self._call = -1
        self._call_ids: str | None = None

    def take(self, event: bytes) -> ModelResponse | None:
        """Return the piece in a stream event, or None."""
        if event.startswith(DONE):
            self.done = True
            return None
        return self.of(_without_error(event))

    def whole(self, payload: bytes) -> Iterator[ModelResponse]:
        """Yield the piece of a whole response. Calls are numbered by position."""
        chunk = _without_error(payload)
        piece = self.of(chunk)
        if piece is None and not chunk.choices:
            raise ModelResponseError(f"the server's response has no choices: {truncate(payload)}")
        if piece is not None:
            for index, call in enumerate(piece.tool_calls or ()):
                call.index = index
            yield piece

    def rest(self) -> ModelResponse | None:
        """Return the usage, if the server sent it."""
        return None if self.usage is None else ModelResponse(usage=self.usage)

    def of(self, chunk: Chunk) -> ModelResponse | None:
        """Return the piece in a chunk, or None."""
        if chunk.usage is not None:
            self.usage = _usage(chunk.usage)
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        if choice.index:
            return None  # another choice: only one was requested
        delta = choice.delta or choice.message
        piece = ModelResponse() if delta is None else self._piece(delta)
        if choice.finish_reason:
            self.complete = True
            piece.finish_reason = "refusal" if self.refused else choice.finish_reason
        elif not (piece.content or piece.tool_calls or piece.reasoning_content):
            return None
        return piece

    def _piece(self, delta: _Delta) -> ModelResponse:
        content = delta.content
        if isinstance(content, list):
            content = "".join(part.text or "" for part in content)
        if delta.refusal:
            self.refused = True
            content = (content or "") + delta.refusal
        return ModelResponse(
            content=content or None,
            reasoning_content=delta.reasoning_content or delta.reasoning or None,
            tool_calls=[self._tool_call(call) for call in delta.tool_calls] if delta.tool_calls else None,
        )

    def _tool_call(self, call: _Call) -> ToolCallDelta:
        """Return the index of a call. Some servers send none: then a new id starts a new call."""
        if call.index is not None:
            self._call = call.index
        elif self._call < 0 or (call.id and call.id != self._call_ids):
            self._call += 1
        if call.id:
            self._call_ids = call.id
        function = call.function or _Function()
        arguments = function.arguments or ""
        if isinstance(arguments, dict):
            arguments = json.dumps(arguments)
        return ToolCallDelta(index=self._call, id=call.id or None, name=function.name or None, arguments=arguments)


def _usage(usage: _Usage) -> Usage:
    read = usage.prompt_tokens_details or _Details()
    written = usage.completion_tokens_details or _Details()
    input_tokens, output_tokens = usage.prompt_tokens or 0, usage.completion_tokens or 0
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=usage.total_tokens or input_tokens + output_tokens,
        reasoning_tokens=written.reasoning_tokens or 0,
        cache_read_tokens=read.cached_tokens or 0,
        cache_write_tokens=read.cache_write_tokens or 0,
    )
