"""One HTTP/1.1 connection of the loopback provider.

asyncio calls the connection; `ProviderServer` chooses the replies. Answers are sent one at a time. The end of the
connection is detected at once, even while an answer waits.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, Protocol, cast

from desist.testing.provider import http11
from desist.testing.provider.api import APIS, ProviderApi, api_of
from desist.testing.provider.exchange import Exchange, ExchangeLog
from desist.testing.provider.replies import Reply
from desist.testing.provider.reply_player import ReplyPlayer

__all__ = ["Connection"]


class ConnectionOwner(Protocol):
    """The part of the server that a connection calls. All on the server's loop."""

    log: ExchangeLog
    answers: dict[int, ReplyPlayer]  #: by the index of the exchange, while the answer is played

    def choose(self, exchange: Exchange) -> Reply:
        """Return the reply to a request."""

    def on_opened(self, connection: Connection) -> None:
        """Register an open connection."""

    def on_closed(self, connection: Connection) -> None:
        """Remove a connection that has ended."""


class Connection(asyncio.Protocol):
    """Reads requests and plays the answers in order. All methods run on the server's loop."""

    def __init__(self, server: ConnectionOwner) -> None:
        self._server = server
        self._log = server.log
        self._buffer = b""
        self._head: http11.Head | None = None
        self._transport: asyncio.Transport | None = None
        self._exchanges: list[Exchange] = []
        self._answer: ReplyPlayer | None = None
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._dropped = False
        self.ended = False
        self.number = 0

    # -- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        self._transport = cast(asyncio.Transport, transport)
        self._writable.set()
        self.number = self._log.opened()
        self._server.on_opened(self)

    def data_received(self, data: bytes) -> None:
        """Receive more of a request."""
        self._buffer += data
        self._read()

    def eof_received(self) -> bool:
        """Handle the end of the client's side. Returning False closes the transport."""
        self._on_ended()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Handle the end of the connection, by either side."""
        self._on_ended()
        self._log.closed()
        self._server.on_closed(self)

    def pause_writing(self) -> None:
        """Make `drain` wait: the socket's send buffer is full."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Wake `drain`: the socket's send buffer has space again."""
        self._writable.set()

    # -- called by ReplyPlayer

    def write(self, data: bytes) -> None:
        if not self.ended and self._transport is not None:
            self._transport.write(data)

    async def drain(self) -> None:
        await self._writable.wait()

    def drop(self) -> None:
        self._dropped = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once, because the provider stops."""
        self._dropped = True
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    # -- requests

    def _read(self) -> None:
        while self._task is None and not self.ended:
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
            self._head = http11.parse_head(raw)
        except ValueError:
            self._refuse(400, "the request line is not valid HTTP")
            self.drop()
            return False
        if "transfer-encoding" in self._head.headers:
            self._refuse(411, "send the request with a content-length")
            self.drop()
            return False
        if self._head.headers.get("expect", "").lower() == "100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _serve(self, head: http11.Head, raw: bytes) -> None:
        path = head.path.partition("?")[0]
        api = api_of(path)
        if api is None:
            served = ", ".join(f"/v1{api.path}" for api in APIS)
            self._refuse(404, f"the loopback provider has no {path}: it serves {served}")
        elif head.method != "POST":
            self._refuse(405, f"use POST, not {head.method}", api)
        else:
            try:
                body = json.loads(raw)
            except ValueError as error:
                self._refuse(400, f"the body is not JSON: {error}", api)
            else:
                self._start(head, body, api)

    def _refuse(self, status: int, message: str, api: ProviderApi = APIS[0]) -> None:
        body = api.error_body(status, message)
        self.write(http11.response_head(status, "application/json", len(body)) + body)

    def _start(self, head: http11.Head, body: Any, api: ProviderApi) -> None:
        fields = {"received_at": time.monotonic(), "connection": self.number, "path": head.path}
        exchange = self._log.request(body, head.headers, **fields)
        self._exchanges.append(exchange)
        try:
            reply = self._server.choose(exchange)
        except AssertionError as error:
            self._log.update(exchange, over=True, refused=str(error))
            self._refuse(400, str(error), api)
            return
        except Exception as error:
            self._log.update(exchange, over=True)
            self._refuse(500, f"choosing a reply failed: {error!r}", api)
            return
        self._answer = ReplyPlayer(self, self._log, exchange, api, reply)
        self._server.answers[exchange.index] = self._answer
        self._task = asyncio.get_running_loop().create_task(self._play(self._answer, exchange))

    async def _play(self, answer: ReplyPlayer, exchange: Exchange) -> None:
        try:
            await answer.play()
        finally:
            self._server.answers.pop(exchange.index, None)
            if not exchange.over:
                self._log.update(exchange, over=True)
            self._task = self._answer = None
        self._read()

    def _on_ended(self) -> None:
        """Record that the connection has ended. Stop generating, unless the reply has `ignore_disconnect`."""
        if self.ended:
            return
        self.ended = True
        self._writable.set()
        by = "provider" if self._dropped else "client"
        fields: dict[str, Any] = {"closed_at": time.monotonic(), "closed_by": by}
        for exchange in self._exchanges:
            if exchange is self._exchanges[-1] and self._answer is not None:
                self._cut_off(exchange, self._answer, fields)
            else:
                self._log.update(exchange, **fields)

    def _cut_off(self, exchange: Exchange, answer: ReplyPlayer, fields: dict[str, Any]) -> None:
        if answer.reply.ignore_disconnect and not self._dropped:
            self._log.update(exchange, **fields)
            return
        assert self._task is not None
        self._task.cancel()
        saved = max(0, answer.reply.count() - exchange.tokens_sent)
        self._log.update(exchange, **fields, tokens_unsent_saved=0 if self._dropped else saved, over=True)
