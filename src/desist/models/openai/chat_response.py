"""Reads chat completions of OpenAI-compatible servers.

`ChatResponseParser` is the `ResponseParser` of `desist.models.http.stream_reader` for them. Must know nothing of
connections.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from desist.exceptions import ModelResponseError
from desist.models.http.answer import Answer, joined
from desist.models.http.decoder import Decoder
from desist.models.http.reported_error import error_in
from desist.models.http.text import truncate
from desist.models.http.usage import RawUsage
from desist.models.response import ModelResponse

__all__ = ["ChatResponseParser", "Chunk", "decode"]


class _Part(msgspec.Struct):
    """A part of a content, or of reasoning."""

    type: str | None = None
    text: str | None = None
    content: str | None = None
    summary: str | None = None
    thinking: str | list[_Part] | _Part | None = None
    refusal: str | None = None


_Text = str | list[_Part] | _Part | None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: Any = None


class _Call(_Function):
    index: int | None = None
    id: str | int | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: _Text = None
    reasoning_content: _Text = None
    reasoning: _Text = None  # the name of some servers
    reasoning_text: _Text = None
    thinking: _Text = None
    reasoning_details: _Text = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None
    function_call: _Function | None = None


class _Choice(msgspec.Struct):
    index: int | None = None
    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    usage: RawUsage | None = None
    error: Any = None


class _Groq(msgspec.Struct):
    usage: RawUsage | None = None
    error: Any = None


class Chunk(msgspec.Struct):
    """A chunk of a streamed response, a whole response, or an error."""

    choices: list[_Choice] | None = None
    usage: RawUsage | None = None
    x_groq: _Groq | None = None
    error: Any = None
    base_resp: Any = None


decode = Decoder(Chunk, "a chat completion")


class ChatResponseParser:
    """Converts chunks to pieces."""

    __slots__ = ("_index", "answer")

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._index: int | None = None  # of the choice that is read: only one was requested

    def take(self, event: bytes) -> ModelResponse | None:
        """Return the piece in a stream event, or None."""
        choice = self._choice(event)
        if choice is None:
            return None
        delta = choice.delta
        if choice.message is not None and not self.answer.said:  # a whole answer; after pieces, it repeats them
            piece = self._message(choice.message)
        else:
            piece = None if delta is None else self._piece(delta)
        if delta is None and choice.text:
            piece = self.answer.text(choice.text)
        if choice.finish_reason is not None:
            self.answer.ended(choice.finish_reason)
        return piece

    def whole(self, payload: bytes) -> Iterator[ModelResponse | None]:
        """Yield the piece of a whole response."""
        choice = self._choice(payload)
        if choice is None:
            raise ModelResponseError(f"the server's response has no choices: {truncate(payload)}")
        message = choice.message or choice.delta
        yield self._message(message) if message is not None else self.answer.text(choice.text or "")
        self.answer.ended(choice.finish_reason)

    def provider_data(self) -> None:
        """Return None: the API takes nothing back."""

    def _choice(self, payload: bytes) -> _Choice | None:
        """Return the choice in a chunk, or None; note the usage, and raise the error that the chunk reports."""
        chunk = decode(payload)
        choice = chunk.choices[0] if chunk.choices else None
        if choice is None:
            self._refuse_error(decode.document(payload))
        elif chunk.error or chunk.base_resp or choice.error:
            self._refuse_error({"error": chunk.error or choice.error, "base_resp": chunk.base_resp})
        self.answer.usage.take(chunk.usage)
        if chunk.x_groq is not None:
            self.answer.usage.take(chunk.x_groq.usage)
        if choice is None:
            return None
        self.answer.usage.take(choice.usage)
        if self._index is None:
            self._index = choice.index
        return choice if choice.index in (None, self._index) else None

    def _refuse_error(self, document: dict[str, Any]) -> None:
        error = error_in(document)
        if error is not None:
            raise error

    def _message(self, message: _Delta) -> ModelResponse | None:
        """Return the piece for a whole message; its calls are whole too."""
        for number, call in enumerate(message.tool_calls or ()):
            function = call.function or call
            given = {"name": function.name, "arguments": function.arguments}
            self.answer.calls.begin(index=number, id=_id(call), **given)
        message.tool_calls = None
        return self._piece(message)

    def _piece(self, delta: _Delta) -> ModelResponse | None:
        answer, content = self.answer, delta.content
        thought = delta.reasoning_content or delta.reasoning or delta.reasoning_text or delta.thinking
        thought = thought or delta.reasoning_details
        if thought is not None and not isinstance(thought, str):
            thought = "".join(text for _, text in _texts(thought))
        if content is not None and not isinstance(content, str):
            parts = list(_texts(content))
            content = "".join(text for is_thought, text in parts if not is_thought)
            thought = thought or "".join(text for is_thought, text in parts if is_thought)
        piece = answer.text(content) if content else None
        if delta.refusal:
            piece = joined(piece, answer.refusal(delta.refusal))
        if thought:
            piece = joined(answer.thought(thought), piece)
        if delta.tool_calls or delta.function_call:
            self._add_calls(delta)
            piece = piece or ModelResponse()  # tells that something arrived
        return piece

    def _add_calls(self, delta: _Delta) -> None:
        calls = self.answer.calls
        calls.next_chunk()
        for call in delta.tool_calls or ():
            function = call.function or call
            calls.add(index=call.index, id=_id(call), name=function.name, arguments=function.arguments)
        if delta.function_call is not None:  # of servers older than `tool_calls`
            function = delta.function_call
            calls.add(index=None, id=None, name=function.name, arguments=function.arguments)


def _id(call: _Call) -> str | None:
    return None if call.id is None or call.id == "" else str(call.id)


def _texts(parts: list[_Part] | _Part) -> Iterator[tuple[bool, str]]:
    """Yield the texts of parts, each with whether it is reasoning."""
    for part in parts if isinstance(parts, list) else [parts]:
        inner = part.thinking
        text = inner if isinstance(inner, str) else "".join(text for _, text in _texts(inner or []))
        is_thought = inner is not None or part.type in ("thinking", "reasoning")
        yield is_thought, text or part.text or part.content or part.summary or part.refusal or ""
