"""Reads responses of the Messages API.

`MessagesParser` is the `ResponseParser` of `desist.models.http.stream_reader` for them. Must know nothing of
connections.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from desist.exceptions import ModelResponseError
from desist.models.anthropic.request import PROVIDER
from desist.models.http.answer import Answer, joined
from desist.models.http.decoder import Decoder
from desist.models.http.reported_error import error_in
from desist.models.http.text import truncate
from desist.models.response import ModelResponse

__all__ = ["MessagesParser"]


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
    partial_json: Any = None
    stop_reason: str | None = None
    usage: Any = None


class _Message(msgspec.Struct):
    content: str | list[_Block] | None = None
    usage: Any = None
    stop_reason: str | None = None


class _Event(_Message):
    """A stream event or, with the fields of `_Message`, a whole response."""

    type: str | None = None
    index: int | None = None
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Block | None = None
    error: Any = None
    base_resp: Any = None


_decode = Decoder(_Event, "an event of the Messages API")
_SILENT = ("ping", "content_block_stop")


class MessagesParser:
    """Converts events to pieces, and collects the thinking to send back."""

    __slots__ = ("_foreign", "_thinking", "_thoughts", "answer")

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._thoughts: list[dict[str, Any]] = []  # blocks to send with the next request
        self._thinking: dict[int | None, dict[str, Any]] = {}  # the latest of them at each index
        self._foreign: set[int | None] = set()  # indexes of calls that the provider makes itself

    def take(self, event: bytes) -> ModelResponse | None:
        """Return the piece in a stream event, or None."""
        decoded = _decode(event)
        if decoded.type == "content_block_delta" and decoded.delta is not None:
            return self._piece(decoded.index, decoded.delta)
        if decoded.error or decoded.base_resp:
            self._refuse_error(event)
        if decoded.content_block is not None:
            return self._begin(decoded.index, decoded.content_block)
        if decoded.content is not None or decoded.message is not None:
            return self._message(decoded.message or decoded)
        self._note(decoded)
        if decoded.type == "message_stop":
            self.answer.done = True
        elif decoded.delta is not None:  # the end; or a piece, where a server leaves the type out
            self.answer.usage.take(decoded.delta.usage, cache_apart=True)
            self.answer.ended(decoded.delta.stop_reason)
            return self._piece(decoded.index, decoded.delta)
        elif decoded.type not in _SILENT:
            self._refuse_error(event)
        return None

    def whole(self, payload: bytes) -> Iterator[ModelResponse | None]:
        """Yield the pieces of a whole response."""
        decoded = _decode(payload)
        if decoded.content is None:
            self._refuse_error(payload)
            raise ModelResponseError(f"the server's response has no content: {truncate(payload)}")
        yield self._message(decoded)

    def provider_data(self) -> dict[str, Any] | None:
        """Return the thinking to send with the next request."""
        blocks = [block for block in self._thoughts if "signature" in block or "data" in block]
        return {PROVIDER: blocks} if blocks else None

    def _refuse_error(self, payload: bytes) -> None:
        error = error_in(_decode.document(payload))
        if error is not None:
            raise error

    def _message(self, message: _Message) -> ModelResponse | None:
        """Return the piece for a whole message, or its beginning; after pieces, it only repeats them."""
        self._note(message)
        if self.answer.said or not message.content:
            return None
        if isinstance(message.content, str):
            return self.answer.text(message.content)
        piece = None
        for index, block in enumerate(message.content):
            piece = joined(piece, self._begin(index, block, whole=True))
        return piece

    def _note(self, message: _Message) -> None:
        """Note usage and stop reason."""
        self.answer.usage.take(message.usage, cache_apart=True)
        self.answer.ended(message.stop_reason)

    def _begin(self, index: int | None, block: _Block, *, whole: bool = False) -> ModelResponse | None:
        kind = block.type or ""
        self._foreign.discard(index)
        if kind == "tool_use":
            arguments = block.input if block.input or whole else None  # {} is sent before the pieces
            self.answer.calls.begin(index=index, id=block.id, name=block.name, arguments=arguments)
            return ModelResponse()  # tells that something arrived
        if kind.endswith("tool_use"):
            self._foreign.add(index)
            return None
        if kind == "redacted_thinking":
            self._thoughts.append({"type": kind, "data": block.data or ""})
            return None
        if kind == "thinking":
            self._thinking[index] = {"type": kind, "thinking": ""}
            self._thoughts.append(self._thinking[index])
        return self._piece(index, block)

    def _piece(self, index: int | None, piece: _Block) -> ModelResponse | None:
        if piece.text:
            return self.answer.text(piece.text)
        if piece.partial_json:
            if index in self._foreign:
                return None
            self.answer.calls.add(index=index, id=None, name=None, arguments=piece.partial_json)
            return ModelResponse()
        block = self._thinking.get(index, {})
        if piece.signature:
            block["signature"] = block.get("signature", "") + piece.signature
        if not piece.thinking:
            return None
        block["thinking"] = block.get("thinking", "") + piece.thinking
        return self.answer.thought(piece.thinking)
