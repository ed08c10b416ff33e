"""Reads one HTTP response to its end, streamed or not. Called by `model`.

Knows the SDK's response only as "headers and bytes", and the protocol only as a `ResponseParser`, which each provider
has its own of. Sends no request and retries nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from time import perf_counter
from typing import Any, Protocol

from desist.cancel.token import current_token
from desist.cancel.upstream import Upstream
from desist.exceptions import ModelResponseError, RunCancelled
from desist.models.http.sse import MAX_EVENT, SseParser
from desist.models.http.text import truncate
from desist.models.response import ModelResponse

__all__ = ["Response", "ResponseParser", "read_answer", "refuse_if_shut"]

SLICE = 0.001  #: seconds of parsing after which other tasks of the loop run
LAST_BYTES = 0.05  #: seconds to wait for the end of the response after the last event, to reuse the connection


class ResponseParser(Protocol):
    """Parses one response of a provider's protocol. Raises ModelError for an invalid one."""

    complete: bool  #: the response is complete if the stream ends now
    done: bool  #: the protocol's last event was received

    def take(self, event: bytes) -> ModelResponse | None:
        """Return the piece in an event, or None."""

    def whole(self, payload: bytes) -> Iterable[ModelResponse]:
        """Return the pieces of a response that is one JSON document."""

    def rest(self) -> ModelResponse | None:
        """Return the last piece, for instance with the usage."""


class Response(Protocol):
    """The used part of the SDK's response."""

    @property
    def headers(self) -> Any:
        """A case-insensitive mapping."""

    def iter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """The chunks of the body."""


def refuse_if_shut(connection: Upstream) -> None:
    """Raise `RunCancelled` if the canceller has shut this connection down: its data is incomplete."""
    if connection.shut:
        raise RunCancelled(current_token().reason)


async def read_answer(
    response: Response, connection: Upstream, reader: ResponseParser
) -> AsyncGenerator[ModelResponse, None]:
    """Yield the pieces of a response. The last one has the usage, if the server sent it.

    Raises:
        ModelResponseError: the body is not a response in the parser's protocol, or ended too early.
        ModelError: the provider reported an error instead of a response.
        RunCancelled: the canceller shut the connection down.
    """
    body: Any = response.iter_bytes()
    async with contextlib.aclosing(body):
        first = b""
        async for first in body:
            if first.strip():
                break
        refuse_if_shut(connection)
        kind = response.headers.get("content-type", "")
        if "event-stream" in kind or first.lstrip().startswith((b"data:", b":", b"event:", b"id:", b"retry:")):
            pieces = _read_stream(first, body, connection, reader)
        elif "json" in kind or first.lstrip().startswith(b"{"):
            pieces = _read_whole(first, body, connection, reader)
        else:
            raise ModelResponseError(f"expected text/event-stream, received {kind or 'no type'}: {truncate(first)!r}")
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                yield piece


async def _read_whole(
    first: bytes, body: Any, connection: Upstream, reader: ResponseParser
) -> AsyncGenerator[ModelResponse, None]:
    """Read a response that is one JSON document."""
    parts = [first]
    size = len(first)
    async for part in body:
        parts.append(part)
        size += len(part)
        if size > MAX_EVENT:
            raise ModelResponseError(f"the server sent a response of more than {MAX_EVENT} bytes")
    refuse_if_shut(connection)
    for piece in reader.whole(b"".join(parts)):
        yield piece
    rest = reader.rest()
    if rest is not None:
        yield rest


async def _read_stream(
    first: bytes, body: Any, connection: Upstream, reader: ResponseParser
) -> AsyncGenerator[ModelResponse, None]:
    parser, take = SseParser(), reader.take
    last = received = first
    started = perf_counter()  # not reset by a read: a read of buffered bytes doesn't let other tasks run
    while not reader.done:
        for event in parser.feed(received) if received else parser.finish():
            try:
                piece = take(event)
            except ModelResponseError:
                if received:
                    raise
                if reader.complete:
                    break
                raise _too_early(event) from None
            if connection.shut:
                refuse_if_shut(connection)
            if piece is not None:
                yield piece
            if reader.done:
                break
            if perf_counter() - started > SLICE:
                await asyncio.sleep(0)
                started = perf_counter()
        if not received:
            break
        if not reader.done:
            last, received = received, await anext(body, b"")
            refuse_if_shut(connection)
    if not (reader.done or reader.complete):
        raise _too_early(last)
    rest = reader.rest()
    if rest is not None:
        yield rest
    if reader.done:
        await _drain(body)


def _too_early(last: bytes) -> ModelResponseError:
    text = "the stream ended before the response was complete (no finish reason, no end mark); last received: "
    return ModelResponseError(text + repr(truncate(last[-300:])), retryable=True)


async def _drain(body: Any) -> None:
    """Read the end of the response, so that the connection can be reused."""
    try:
        async with asyncio.timeout(LAST_BYTES):
            async for _ in body:
                pass
    except TimeoutError:
        pass
