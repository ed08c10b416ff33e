"""Reads responses of the Responses API.

`ResponsesParser` is the `ResponseParser` of `desist.models.http.response_reader` for them. Must know nothing of
connections.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from desist.exceptions import ModelResponseError
from desist.models.http.decoder import Decoder
from desist.models.http.errors import reported_error
from desist.models.http.text import truncate
from desist.models.openai.responses_request import PROVIDER
from desist.models.response import ModelResponse, ToolCallDelta, Usage

__all__ = ["ResponsesParser"]


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Part(msgspec.Struct):
    text: str | None = None
    refusal: str | None = None


class _Item(msgspec.Struct):
    type: str | None = None
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    content: list[_Part] | None = None
    summary: list[_Part] | None = None
    encrypted_content: str | None = None


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class _Answer(msgspec.Struct):
    output: list[_Item] | None = None
    usage: _Usage | None = None
    error: Any = None
    status: str | None = None
    incomplete_details: _Incomplete | None = None


class _Event(_Answer):
    """A stream event or, with the fields of `_Answer`, a whole response."""

    type: str | None = None
    output_index: int | None = None
    summary_index: int | None = None
    delta: Any = None
    item: _Item | None = None
    response: _Answer | None = None
    message: Any = None
    code: Any = None


_decode = Decoder(_Event, "an event of the Responses API")


class ResponsesParser:
    """Converts events to pieces, and collects what is known only at the end."""

    __slots__ = ("_called", "_reasoning", "_refused", "_spelled", "_usage", "complete", "done")

    def __init__(self) -> None:
        self.complete = False
        self.done = False
        self._usage: Usage | None = None
        self._refused = False
        self._called: set[int] = set()  # started calls
        self._spelled: set[int] = set()  # calls whose arguments arrived in pieces
        self._reasoning: list[dict[str, Any]] = []

    def take(self, event: bytes) -> ModelResponse | None:
        """Return the piece in a stream event, or None."""
        if event.startswith(b"[DONE]"):
            self.done = True
            return None
        decoded = _decode(event)
        handle = _HANDLERS.get(decoded.type or "")
        if handle is not None:
            return handle(self, decoded)
        if decoded.error and decoded.type is None:
            raise reported_error(decoded.error)
        return None

    def whole(self, payload: bytes) -> Iterator[ModelResponse]:
        """Yield the pieces of a whole response."""
        decoded = _decode(payload)
        if decoded.output is None and not decoded.error:
            raise ModelResponseError(f"the server's response has no output: {truncate(payload)}")
        for index, item in enumerate(decoded.output or ()):
            text = "".join(part.text or part.refusal or "" for part in item.content or ())
            thought = "\n\n".join(part.text or "" for part in item.summary or ())
            if item.type == "message" and text:
                self._refused = self._refused or any(part.refusal for part in item.content or ())
                yield ModelResponse(content=text)
            elif item.type == "reasoning" and thought:
                yield ModelResponse(reasoning_content=thought)
            calls = self._item_done(index, item)
            if calls is not None:
                yield calls
        yield self._end(decoded)

    def rest(self) -> ModelResponse | None:
        """Return the usage, and the reasoning to send with the next request."""
        if self._usage is None and not self._reasoning:
            return None
        return ModelResponse(usage=self._usage, provider_data={PROVIDER: self._reasoning} if self._reasoning else None)

    # -- events

    def _text(self, event: _Event) -> ModelResponse | None:
        return ModelResponse(content=event.delta) if event.delta else None

    def _refusal(self, event: _Event) -> ModelResponse | None:
        self._refused = True
        return self._text(event)

    def _thought(self, event: _Event) -> ModelResponse | None:
        return ModelResponse(reasoning_content=event.delta) if event.delta else None

    def _thought_part(self, event: _Event) -> ModelResponse | None:
        return ModelResponse(reasoning_content="\n\n") if event.summary_index else None

    def _added(self, event: _Event) -> ModelResponse | None:
        item = event.item
        if item is None or item.type != "function_call":
            return None
        return self._call(event.output_index or 0, item, "")

    def _arguments(self, event: _Event) -> ModelResponse:
        index = event.output_index or 0
        self._spelled.add(index)
        return ModelResponse(tool_calls=[ToolCallDelta(index=index, arguments=str(event.delta or ""))])

    def _done(self, event: _Event) -> ModelResponse | None:
        return None if event.item is None else self._item_done(event.output_index or 0, event.item)

    def _item_done(self, index: int, item: _Item) -> ModelResponse | None:
        if item.type == "reasoning" and item.encrypted_content:
            self._reasoning.append(_repeatable(item))
        if item.type != "function_call":
            return None
        arguments = "" if index in self._spelled else item.arguments or ""
        if index not in self._called:
            return self._call(index, item, arguments)
        return ModelResponse(tool_calls=[ToolCallDelta(index=index, arguments=arguments)]) if arguments else None

    def _call(self, index: int, item: _Item, arguments: str) -> ModelResponse:
        self._called.add(index)
        delta = ToolCallDelta(index=index, id=item.call_id or item.id, name=item.name, arguments=arguments)
        return ModelResponse(tool_calls=[delta])

    def _ended(self, event: _Event) -> ModelResponse:
        self.done = True
        return self._end(event.response or event)

    def _end(self, answer: _Answer) -> ModelResponse:
        if answer.error or answer.status in ("failed", "cancelled"):
            raise reported_error(answer.error or f"the response ended with status {answer.status!r}")
        self.complete = True
        if answer.usage is not None:
            self._usage = _usage(answer.usage)
        return ModelResponse(finish_reason=self._reason(answer))

    def _reason(self, answer: _Answer) -> str:
        if answer.status == "incomplete":
            why = answer.incomplete_details.reason if answer.incomplete_details else None
            return "length" if why == "max_output_tokens" else why or "length"
        if self._refused:
            return "refusal"
        return "tool_calls" if self._called else "stop"

    def _failed(self, event: _Event) -> ModelResponse:
        answer = event.response or event
        raise reported_error(answer.error or "the response failed")

    def _error(self, event: _Event) -> ModelResponse:
        raise reported_error(event.error or {"message": event.message, "code": event.code})


_HANDLERS = {
    "response.output_text.delta": ResponsesParser._text,
    "response.refusal.delta": ResponsesParser._refusal,
    "response.reasoning_summary_text.delta": ResponsesParser._thought,
    "response.reasoning_text.delta": ResponsesParser._thought,
    "response.reasoning_summary_part.added": ResponsesParser._thought_part,
    "response.output_item.added": ResponsesParser._added,
    "response.function_call_arguments.delta": ResponsesParser._arguments,
    "response.output_item.done": ResponsesParser._done,
    "response.completed": ResponsesParser._ended,
    "response.incomplete": ResponsesParser._ended,
    "response.failed": ResponsesParser._failed,
    "error": ResponsesParser._error,
}


def _repeatable(item: _Item) -> dict[str, Any]:
    """Return a reasoning item for the next request."""
    summary = [{"type": "summary_text", "text": part.text or ""} for part in item.summary or ()]
    known = {} if item.id is None else {"id": item.id}
    return {"type": "reasoning", **known, "summary": summary, "encrypted_content": item.encrypted_content}


def _usage(usage: _Usage) -> Usage:
    read = usage.input_tokens_details or _InputDetails()
    written = usage.output_tokens_details or _OutputDetails()
    input_tokens, output_tokens = usage.input_tokens or 0, usage.output_tokens or 0
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=usage.total_tokens or input_tokens + output_tokens,
        reasoning_tokens=written.reasoning_tokens or 0,
        cache_read_tokens=read.cached_tokens or 0,
        cache_write_tokens=read.cache_write_tokens or 0,
    )
