"""What an OpenAI-compatible server sends, as typed structures, and their translation into pieces of an answer.

Called by `answer`. msgspec reads the usual chunk in a microsecond; what it refuses (half of a surrogate pair, a float
for an int) gets a second, lenient reading. Must know nothing of connections.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from desist.exceptions import ModelError, ModelResponseError
from desist.models.openai.text import clean, shorten
from desist.models.response import ModelResponse, ToolCallDelta, Usage

__all__ = ["Chunk", "Pieces", "RETRYABLE_STATUS", "decode", "error_of"]

#: HTTP statuses after which another try may help, besides every 5xx.
RETRYABLE_STATUS = frozenset({408, 409, 429})
#: Words in a provider's error type or code that mean the same in mid-stream, where there is no status.
_RETRYABLE_WORDS = ("server_error", "overloaded", "rate_limit", "timeout", "unavailable")


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
    reasoning: str | None = None  # the same, as some servers call it
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
    """A chunk of a streamed answer, or a whole answer, or an error."""

    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None
    object: str | None = None
    message: Any = None
    code: Any = None


_read = msgspec.json.Decoder(Chunk).decode


def decode(payload: bytes) -> Chunk:
    """Return `payload` as a chunk.

    Raises:
        ModelResponseError: it isn't JSON, or not of that shape; the message shows its beginning.
    """
    try:
        return _read(payload)
    except msgspec.DecodeError:
        pass
    try:
        return msgspec.convert(clean(json.loads(payload.decode(errors="replace"))), Chunk, strict=False)
    except (ValueError, RecursionError) as error:
        raise ModelResponseError(
            f"the server sent something that isn't a chat completion ({error}): {shorten(payload)}"
        ) from None


def error_of(chunk: Chunk) -> ModelError | None:
    """Return the error that a chunk reports in place of an answer, if it does."""
    told = chunk.error
    if not told and chunk.choices:
        told = next((choice.error for choice in chunk.choices if choice.error), None)
    if not told and chunk.object == "error":
        told = {"message": chunk.message, "code": chunk.code}
    if not told:
        return None
    facts = told if isinstance(told, dict) else {"message": told}
    code = str(facts.get("code"))
    status = int(code) if code.isdecimal() and len(code) == 3 and code[0] in "45" else None
    kind = f"{facts.get('type')} {code}".lower()
    retryable = is_retryable(status) if status else any(word in kind for word in _RETRYABLE_WORDS)
    said = shorten(str(facts.get("message") or told))
    return ModelError(f"the provider reported an error: {said}", status_code=status, retryable=retryable)


def is_retryable(status: int) -> bool:
    """Whether another try may help after this HTTP status."""
    return status in RETRYABLE_STATUS or status >= 500


class Pieces:
    """Turns chunks into pieces and remembers what only the end may tell: usage, refusal, whether it is complete."""

    __slots__ = ("_call", "_call_ids", "complete", "refused", "usage")

    def __init__(self) -> None:
        self.complete = False  #: a finish reason was seen
        self.refused = False
        self.usage: Usage | None = None
        self._call = -1
        self._call_ids: str | None = None

    def of(self, chunk: Chunk) -> ModelResponse | None:
        """Return the piece in `chunk`, or None if there is nothing to show in it."""
        if chunk.usage is not None:
            self.usage = _usage(chunk.usage)
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        if choice.index:
            return None  # another alternative: only one was asked for
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
        """Some servers send no index: there, a new id begins a new call."""
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


def _usage(told: _Usage) -> Usage:
    read = told.prompt_tokens_details or _Details()
    written = told.completion_tokens_details or _Details()
    asked, answered = told.prompt_tokens or 0, told.completion_tokens or 0
    return Usage(
        input_tokens=asked,
        output_tokens=answered,
        total_tokens=told.total_tokens or asked + answered,
        reasoning_tokens=written.reasoning_tokens or 0,
        cache_read_tokens=read.cached_tokens or 0,
        cache_write_tokens=read.cache_write_tokens or 0,
    )
