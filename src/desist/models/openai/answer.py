"""One response of a server, read to its end: streamed or whole, good or bad. Called by `chat`.

Knows the SDK's response only as "headers and bytes". Sends no request and retries nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from time import perf_counter
from typing import Any, Protocol

from desist.cancel.token import current_token
from desist.cancel.upstream import Upstream
from desist.exceptions import ModelResponseError, RunCancelled
from desist.models.openai.sse import MAX_EVENT, SseParser
from desist.models.openai.text import shorten
from desist.models.openai.wire import Chunk, Pieces, decode, error_of
from desist.models.response import ModelResponse

__all__ = ["Response", "read_answer", "refuse_if_shut"]

SLICE = 0.001  #: seconds of uninterrupted parsing after which other tasks of the loop get their turn
LAST_BYTES = 0.05  #: seconds that a server has to end its response after "[DONE]", so that its connection is reused


class Response(Protocol):
    """What is used of the SDK's response."""

    @property
    def headers(self) -> Any:
        """A mapping, blind to case."""

    def iter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """The body as it arrives."""


def refuse_if_shut(connection: Upstream) -> None:
    """Raise `RunCancelled` if the canceller has shut this connection down: what is read from it now means nothing."""
    if connection.shut:
        raise RunCancelled(current_token().reason)


async def read_answer(response: Response, connection: Upstream) -> AsyncGenerator[ModelResponse, None]:
    """Yield the pieces of an answer; the last one holds the usage, where the server told it.

    Raises:
        ModelResponseError: the body is no chat completion, or ended too early.
        ModelError: the provider reported an error in place of an answer.
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
            pieces = _read_stream(first, body, connection)
        elif "json" in kind or first.lstrip().startswith(b"{"):
            pieces = _read_whole(first, body, connection)
        else:
            raise ModelResponseError(f"expected text/event-stream, received {kind or 'no type'}: {shorten(first)!r}")
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                yield piece


async def _read_whole(first: bytes, body: Any, connection: Upstream) -> AsyncGenerator[ModelResponse, None]:
    """A server that doesn't stream: one JSON document."""
    parts = [first]
    size = len(first)
    async for part in body:
        parts.append(part)
        size += len(part)
        if size > MAX_EVENT:
            raise ModelResponseError(f"the server sent an answer of more than {MAX_EVENT} bytes")
    refuse_if_shut(connection)
    payload = b"".join(parts)
    chunk = _without_error(payload)
    pieces = Pieces()
    piece = pieces.of(chunk)
    if piece is None and not chunk.choices:
        raise ModelResponseError(f"the server's answer has no choices: {shorten(payload)}")
    if piece is not None:
        for index, call in enumerate(piece.tool_calls or ()):
            call.index = index
        yield piece
    if pieces.usage is not None:
        yield ModelResponse(usage=pieces.usage)


async def _read_stream(first: bytes, body: Any, connection: Upstream) -> AsyncGenerator[ModelResponse, None]:
    parser, pieces = SseParser(), Pieces()
    last = received = first
    done = False
    started = perf_counter()  # not set anew by a read: one that finds bytes at hand doesn't let other tasks run
    while not done:
        events = parser.feed(received) if received else parser.finish()
        for event in events:
            if event.startswith(b"[DONE]"):
                done = True
                break
            piece = pieces.of(_without_error(event, ended=not received, complete=pieces.complete))
            if connection.shut:
                refuse_if_shut(connection)
            if piece is not None:
                yield piece
            if perf_counter() - started > SLICE:
                await asyncio.sleep(0)
                started = perf_counter()
        if not received:
            break
        if not done:
            last, received = received, await anext(body, b"")
            refuse_if_shut(connection)
    if not (done or pieces.complete):
        raise _too_early(last)
    if pieces.usage is not None:
        yield ModelResponse(usage=pieces.usage)
    if done:
        await _drain(body)


def _without_error(event: bytes, *, ended: bool = False, complete: bool = False) -> Chunk:
    try:
        chunk = decode(event)
    except ModelResponseError:
        if not ended:
            raise
        if complete:
            return Chunk()
        raise _too_early(event) from None
    error = error_of(chunk)
    if error is not None:
        raise error
    return chunk


def _too_early(last: bytes) -> ModelResponseError:
    text = "the stream ended before the answer was complete (no finish reason, no [DONE]); last received: "
    return ModelResponseError(text + repr(shorten(last[-300:])), retryable=True)


async def _drain(body: Any) -> None:
    """Read the end of the response: only then the connection can serve the next request."""
    try:
        async with asyncio.timeout(LAST_BYTES):
            async for _ in body:
                pass
    except TimeoutError:
        pass
