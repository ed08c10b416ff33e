"""`StreamReader`: from the bytes of a streamed response to its pieces. Called by `response_reader`; does no I/O itself.

Keep-alives and noise end here: empty data, `null`, pings, comments, an end mark in quotes. Knows the API only as a
`ResponseParser`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from desist.exceptions import ModelError, ModelResponseError
from desist.models.http.answer import Answer
from desist.models.http.reported_error import reported_error
from desist.models.http.sse import SseParser
from desist.models.http.text import truncate
from desist.models.response import ModelResponse

__all__ = ["ResponseParser", "StreamReader", "is_stream", "read_document"]

_DONE = b"[DONE]"
_BOM = b"\xef\xbb\xbf"
_ERRORS = (b"error", b"[error", b"exception")
_FIELDS = (b"data:", b":", b"event:", b"id:", b"retry:")


class ResponseParser(Protocol):
    """Parses one response of a provider's protocol. Raises ModelError for an invalid one."""

    answer: Answer

    def take(self, event: bytes) -> ModelResponse | None:
        """Return the piece in an event, or None."""

    def whole(self, payload: bytes) -> Iterable[ModelResponse | None]:
        """Return the pieces of a response that is one JSON document."""

    def provider_data(self) -> Mapping[str, Any] | None:
        """Return what to send back with the next request, after the last piece."""


def is_stream(content_type: str, first: bytes) -> bool | None:
    """Return whether a response is a stream of events (True) or one JSON document (False); None if neither.

    The first bytes tell more than the type: some servers report an error in JSON under the type of a stream.
    """
    start = first.removeprefix(_BOM).lstrip()
    if start.startswith((b"{", b"[")):
        return False
    if "event-stream" in content_type or start.startswith(_FIELDS):
        return True
    return False if "json" in content_type else None


def read_document(payload: bytes, parser: ResponseParser) -> Iterator[ModelResponse]:
    """Yield the pieces of a response that is one JSON document."""
    yield from filter(None, parser.whole(payload.removeprefix(_BOM)))
    yield parser.answer.last_piece(parser.provider_data())


class StreamReader:
    """Reads one streamed response."""

    def __init__(self, parser: ResponseParser) -> None:
        self._parser, self._answer = parser, parser.answer
        self._sse = SseParser()
        self._last = b""  # received last, for messages
        self._ended = False  # all bytes were received
        self._failure: ModelError | None = None

    @property
    def is_over(self) -> bool:
        """Whether no more bytes are needed: after the end mark, an error, or the end of the stream."""
        return self._ended or self._answer.done or self._failure is not None

    def feed(self, received: bytes) -> list[ModelResponse]:
        """Return the pieces that `received` completes; b"" is the end of the stream. `last` raises the errors."""
        self._last = received or self._last
        self._ended = not received
        pieces: list[ModelResponse] = []
        try:
            self._read(self._sse.feed(received) if received else self._sse.finish(), pieces)
            if self._sse.error is not None and not self._answer.done:
                raise reported_error(self._sse.error)
        except ModelError as error:
            self._failure = error
        return pieces

    def last(self) -> ModelResponse:
        """Return the last piece, when it is over.

        Raises:
            ModelError: the provider reported an error.
            ModelResponseError: the response isn't in the parser's protocol, ended too early, or is empty.
        """
        if self._failure is not None:
            raise self._failure
        if not (self._answer.done or self._answer.complete):
            raise self._too_early()
        return self._answer.last_piece(self._parser.provider_data())

    def _read(self, events: list[bytes], pieces: list[ModelResponse]) -> None:
        answer, take = self._answer, self._parser.take
        for event in events:
            if event.startswith(b"{"):  # nearly always
                try:
                    piece = take(event)
                except ModelResponseError:
                    self._read_broken(event, pieces)
                else:
                    if piece is not None:
                        pieces.append(piece)
            else:
                self._read_odd(event, pieces)
            if answer.done:
                return

    def _read_odd(self, event: bytes, pieces: list[ModelResponse]) -> None:
        """Read an event that doesn't begin as an object, or a part of an event. A text that says so is an error."""
        if event.lstrip().lower().startswith(_ERRORS):
            raise reported_error(event.strip())
        for document in _documents(event):
            if document == _DONE:
                self._answer.done = True
                return
            piece = self._parser.take(document)
            if piece is not None:
                pieces.append(piece)

    def _read_broken(self, event: bytes, pieces: list[ModelResponse]) -> None:
        """Read an event again that isn't JSON: it may be several, if a server ends events with one line end."""
        *lines, last = event.split(b"\n")
        for line in lines:
            self._read_odd(line, pieces)
        try:
            self._read_odd(last, pieces)
        except ModelResponseError:
            if not self._ended:
                raise
            if not self._answer.complete:  # else it was cut off after the answer
                raise self._too_early() from None

    def _too_early(self) -> ModelResponseError:
        text = "the stream ended before the response was complete (no finish reason, no end mark); last received: "
        return ModelResponseError(text + repr(truncate(self._last[-300:])), retryable=True)


def _documents(event: bytes) -> list[bytes]:
    """Return the JSON objects in the data of an event, or the end mark; nothing for noise."""
    text = event.removeprefix(_BOM).strip()
    while text.startswith(b"data:"):
        text = text[5:].lstrip()
    if text.strip(b'"').upper() == _DONE:
        return [_DONE]
    if not text.startswith(b"["):
        return [text] if text.startswith(b"{") else []
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return [json.dumps(entry).encode() for entry in entries if isinstance(entry, dict)]
