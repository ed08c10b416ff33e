"""One HTTP/1.1 connection to the loopback provider: requests in, one answer at a time, and the moment it ends.

Called by asyncio; the replies are chosen by `desist.testing.provider.server`. The end of the client is seen at once,
whatever the answer is waiting for.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, cast

from desist.testing.provider import http11 as wire
from desist.testing.provider.api import DIALECTS, ProviderApi, dialect_of
from desist.testing.provider.exchange import Exchange
from desist.testing.provider.reply_player import ReplyPlayer

if TYPE_CHECKING:
    from desist.testing.provider.server import ProviderServer

__all__ = ["Connection"]


class Connection(asyncio.Protocol):
    """Reads requests and plays their answers in order. Lives on the provider's loop."""

    def __init__(self, site: ProviderServer) -> None:
        self._site = site
        self._book = site.book
        self._buffer = b""
        self._head: wire.Head | None = None
        self._transport: asyncio.Transport | None = None
        self._exchanges: list[Exchange] = []
        self._answer: ReplyPlayer | None = None
        self._task: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._dropped = False
        self.gone = False
        self.number = 0

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        self._transport = cast(asyncio.Transport, transport)
        self._room.set()
        self.number = self._book.opened()
        self._site.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Take more of a request."""
        self._buffer += data
        self._read()

    def eof_received(self) -> bool:
        """The client closed its side: it has left. The transport is closed in turn."""
        self._left()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone, by a reset or by a close of ours."""
        self._left()
        self._book.closed()
        self._site.connections.discard(self)
        if not self._site.connections:
            self._site.idle.set()

    def pause_writing(self) -> None:
        """The socket is full."""
        self._room.clear()

    def resume_writing(self) -> None:
        """The socket takes more."""
        self._room.set()

    # -- what an answer calls

    def write(self, data: bytes) -> None:
        """Send bytes; nothing happens once the client is gone."""
        if not self.gone and self._transport is not None:
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the socket takes more, or the client is gone."""
        await self._room.wait()

    def drop(self) -> None:
        """Close the connection after what was written."""
        self._dropped = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once: the provider stops."""
        self._dropped = True
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    # -- requests

    def _read(self) -> None:
        while self._task is None and not self.gone:
            if self._head is None and not self._read_head():
                return
            assert self._head is not None
            length = int(self._head.headers.get("content-length", "0"))
            if len(self._buffer) < length:
                return
            head, self._head = self._head, None
            body, self._buffer = self._buffer[:length], self._buffer[length:]
            self._serve(head, body)

    def _read_head(self) -> bool:
        raw, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return False
        self._buffer = rest
        try:
            self._head = wire.parse_head(raw)
        except ValueError:
            self._refuse(400, "this is not an HTTP request")
            self.drop()
            return False
        if "transfer-encoding" in self._head.headers:
            self._refuse(411, "send the request with a content-length")
            self.drop()
            return False
        if self._head.headers.get("expect", "").lower() == "100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _serve(self, head: wire.Head, raw: bytes) -> None:
        path = head.path.partition("?")[0]
        dialect = dialect_of(path)
        if dialect is None:
            served = ", ".join(f"/v1{dialect.path}" for dialect in DIALECTS)
            self._refuse(404, f"the loopback provider has no {path}: it serves {served}")
        elif head.method != "POST":
            self._refuse(405, f"use POST, not {head.method}", dialect)
        else:
            try:
                body = json.loads(raw)
            except ValueError as error:
                self._refuse(400, f"the body is not JSON: {error}", dialect)
            else:
                self._start(head, body, dialect)

    def _refuse(self, status: int, message: str, dialect: ProviderApi = DIALECTS[0]) -> None:
        body = dialect.error_body(status, message)
        self.write(wire.response_head(status, "application/json", len(body)) + body)

    def _start(self, head: wire.Head, body: Any, dialect: ProviderApi) -> None:
        seen = {"received_at": time.monotonic(), "connection": self.number, "path": head.path}
        exchange = self._book.request(body, head.headers, **seen)
        self._exchanges.append(exchange)
        try:
            dialect.check(body)
            reply = self._site.choose(exchange)
        except AssertionError as error:
            self._book.update(exchange, over=True, refused=str(error))
            self._refuse(400, str(error), dialect)
            return
        except Exception as error:
            self._book.update(exchange, over=True)
            self._refuse(500, f"choosing a reply failed: {error!r}", dialect)
            return
        self._answer = ReplyPlayer(self, self._book, exchange, dialect, reply)
        self._site.answers[exchange.index] = self._answer
        self._task = asyncio.get_running_loop().create_task(self._play(self._answer, exchange))

    async def _play(self, answer: ReplyPlayer, exchange: Exchange) -> None:
        try:
            await answer.play()
        finally:
            self._site.answers.pop(exchange.index, None)
            if not exchange.over:
                self._book.update(exchange, over=True)
            self._task = self._answer = None
        self._read()

    def _left(self) -> None:
        """Note that the connection has ended, and stop generating unless the reply is a bad provider's."""
        if self.gone:
            return
        self.gone = True
        self._room.set()
        by = "provider" if self._dropped else "client"
        seen: dict[str, Any] = {"closed_at": time.monotonic(), "closed_by": by}
        for exchange in self._exchanges:
            if exchange is self._exchanges[-1] and self._answer is not None:
                self._cut_off(exchange, self._answer, seen)
            else:
                self._book.update(exchange, **seen)

    def _cut_off(self, exchange: Exchange, answer: ReplyPlayer, seen: dict[str, Any]) -> None:
        if answer.reply.ignore_disconnect and not self._dropped:
            self._book.update(exchange, **seen)
            return
        assert self._task is not None
        self._task.cancel()
        saved = max(0, answer.reply.count() - exchange.tokens_sent)
        self._book.update(exchange, **seen, tokens_unsent_saved=0 if self._dropped else saved, over=True)
