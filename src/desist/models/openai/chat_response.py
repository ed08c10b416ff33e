"""Reads chat completions of OpenAI-compatible servers.

`ChatResponseParser` is the `ResponseParser` of `desist.models.http.stream_reader` for them. Must know nothing of
connections.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from desist.exceptions import ModelResponseError
from desist.models.finish_reason import known_finish_reason
from desist.models.http.answer import Answer, joined
from desist.models.http.decoder import Decoder
from desist.models.http.reported_error import error_in
from desist.models.http.text import truncate
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


class _Kind(msgspec.Struct):
    type: str | None = None


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
    finish_reason: str | None = None
    usage: Any = None
    error: Any = None


class _Choice(msgspec.Struct):
    index: int | None = None
    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None
    finish_reason: str | _Kind | None = None
    finish_details: _Kind | None = None
    native_finish_reason: str | None = None
    stop_reason: str | int | None = None  # or what text has stopped the model
    usage: Any = None
    error: Any = None


class _Groq(msgspec.Struct):
    usage: Any = None
    error: Any = None


class Chunk(msgspec.Struct):
    """A chunk of a streamed response, a whole response, or an error."""

    choices: list[_Choice] | None = None
    usage: Any = None
    x_groq: _Groq | None = None
    finish_reason: str | None = None
    error: Any = None
    base_resp: Any = None


decode = Decoder(Chunk, "a chat completion")


class ChatResponseParser:
    """Converts chunks to pieces."""

    __slots__ = ("_index", "_pieces", "answer")

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._index: int | None = None  # of the choice that is read: only one was requested
        self._pieces = False  # there were pieces of calls: a message after them repeats the calls

    def take(self, event: bytes) -> ModelResponse | None:
        """Return the piece in a stream event, or None."""
        piece = None
        for choice in self._choices(event):
            piece = joined(piece, self._take(choice))
        return piece

    def _take(self, choice: _Choice) -> ModelResponse | None:
        said = choice.delta
        if choice.error or (said is not None and said.error):
            self._refuse_error({"error": choice.error or (said and said.error)})
        message = choice.message
        if message is not None:
            self._whole_calls(message)
            if not self.answer.said:  # after pieces of a text, it repeats them
                said = message
        piece = None if said is None else self._piece(said)
        if said is None and choice.text:
            piece = self.answer.text(choice.text)
        self.answer.usage.take(choice.usage or (said and said.usage))
        self._note_reason(choice)
        return piece

    def _note_reason(self, choice: _Choice) -> None:
        reason = choice.finish_reason or choice.finish_details
        if reason is None:  # other names for it, where other things may stand too
            delta = choice.delta
            told = choice.native_finish_reason or choice.stop_reason or (delta and delta.finish_reason)
            reason = known_finish_reason(told) if told else None
        if reason is not None:
            self.answer.ended(reason.type if isinstance(reason, _Kind) else reason)

    def whole(self, payload: bytes) -> Iterator[ModelResponse | None]:
        """Yield the pieces of a whole response."""
        choices = self._choices(payload)
        if not choices:
            raise ModelResponseError(f"the server's response has no choices: {truncate(payload)}")
        for choice in choices:
            choice.message, choice.delta = choice.message or choice.delta, None
            yield self._take(choice)

    def provider_data(self) -> None:
        """Return None: the API takes nothing back."""

    def _choices(self, payload: bytes) -> list[_Choice]:
        """Return the choices in a chunk; note the usage, and raise the error that the chunk reports."""
        chunk, answer = decode(payload), self.answer
        choices = chunk.choices
        if not choices:
            document = decode.document(payload)
            self._refuse_error(document)
            answer.usage.take(document)
            answer.usage.take(chunk.usage)
            answer.ended(chunk.finish_reason or known_finish_reason(document.get("done_reason")))
            return []
        if chunk.error or chunk.base_resp:
            self._refuse_error({"error": chunk.error, "base_resp": chunk.base_resp})
        if chunk.usage is not None:
            answer.usage.take(chunk.usage)
        if chunk.x_groq is not None:
            answer.usage.take(chunk.x_groq.usage)
        if chunk.finish_reason is not None:
            answer.ended(chunk.finish_reason)
        if self._index is None:
            self._index = choices[0].index
        return [choice for choice in choices if choice.index in (None, self._index)]

    def _refuse_error(self, document: dict[str, Any]) -> None:
        error = error_in(document)
        if error is not None:
            raise error

    def _whole_calls(self, message: _Delta) -> None:
        """Take the calls of a whole message; after pieces of calls, as far as they are missing there."""
        found, message.tool_calls = message.tool_calls or [], None
        calls = self.answer.calls
        if self._pieces and calls.all_whole(len(found)):
            return
        for number, call in enumerate(found):
            function = call.function or call
            take = calls.finish if self._pieces else calls.begin
            take(index=number, id=_id(call), name=function.name, arguments=function.arguments)

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
        self._pieces = True
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
