"""Reads one HTTP response to its end, streamed or not. Called by `model`.

Knows the SDK's response only as "headers and bytes"; `stream_reader` makes pieces of them. Sends no request and retries
nothing.
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
from desist.models.http.reported_error import is_passing
from desist.models.http.sse import MAX_EVENT
from desist.models.http.stream_reader import ResponseParser, StreamReader, is_stream, read_document
from desist.models.http.text import SHOWN, truncate
from desist.models.response import ModelResponse

__all__ = ["Response", "read_answer", "refuse_if_shut"]

SLICE = 0.001  #: seconds of parsing after which other tasks of the loop run
LAST_BYTES = 0.05  #: seconds to wait for the end of the response after the last event, to reuse the connection


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
    response: Response, connection: Upstream, parser: ResponseParser
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
        streamed = is_stream(kind, first)
        if streamed is None:
            while len(first) < SHOWN and (part := await anext(body, b"")):
                first += part
            told = truncate(first)
            raise ModelResponseError(
                f"expected text/event-stream, received {kind or 'no type'}: {told!r}", retryable=is_passing(told)
            )
        pieces = (_read_stream if streamed else _read_document)(first, body, connection, parser)
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                yield piece


async def _read_document(
    first: bytes, body: Any, connection: Upstream, parser: ResponseParser
) -> AsyncGenerator[ModelResponse, None]:
    parts = [first]
    size = len(first)
    async for part in body:
        parts.append(part)
        size += len(part)
        if size > MAX_EVENT:
            raise ModelResponseError(f"the server sent a response of more than {MAX_EVENT} bytes")
    refuse_if_shut(connection)
    for piece in read_document(b"".join(parts), parser):
        yield piece


async def _read_stream(
    first: bytes, body: Any, connection: Upstream, parser: ResponseParser
) -> AsyncGenerator[ModelResponse, None]:
    reader = StreamReader(parser)
    received = first
    started = perf_counter()  # not reset by a read: a read of buffered bytes doesn't let other tasks run
    while True:
        for piece in reader.feed(received):
            if connection.shut:
                refuse_if_shut(connection)
            yield piece
            if perf_counter() - started > SLICE:
                await asyncio.sleep(0)
                started = perf_counter()
        if reader.is_over:
            break
        received = await anext(body, b"")
        refuse_if_shut(connection)
    yield reader.last()
    if parser.answer.done:
        await _drain(body)


async def _drain(body: Any) -> None:
    """Read the end of the response, so that the connection can be reused."""
    try:
        async with asyncio.timeout(LAST_BYTES):
            async for _ in body:
                pass
    except TimeoutError:
        pass
