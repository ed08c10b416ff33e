"""Play one `Reply` on one connection: wait, send tokens, count the generated tokens.

`desist.testing.provider.connection` starts it as a task on the provider's loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from desist.testing.provider import http11
from desist.testing.provider.api import ProviderApi
from desist.testing.provider.exchange import Exchange, ExchangeLog
from desist.testing.provider.replies import HANG, Reply

__all__ = ["ReplyPlayer", "ReplyConnection"]

_FLOOD_BATCH = 64  # tokens per write


class ReplyConnection(Protocol):
    """The part of the connection that a player uses."""

    ended: bool  #: whether the connection has ended

    def write(self, data: bytes) -> None:
        """Send bytes. Does nothing if the connection has ended."""

    async def drain(self) -> None:
        """Wait until the send buffer has space or the connection has ended."""

    def drop(self) -> None:
        """Close the connection once all written bytes have been sent."""


class ReplyPlayer:
    """Plays the answer to one exchange."""

    def __init__(
        self, connection: ReplyConnection, log: ExchangeLog, exchange: Exchange, api: ProviderApi, reply: Reply
    ) -> None:
        self._connection, self._log, self._exchange, self.reply = connection, log, exchange, reply
        self._api = api
        self._encoder = api.encoder(exchange.index, exchange.request, reply)
        self._streams = reply.stream and bool(exchange.request.get("stream"))
        self._permits = 0
        self._hold = False
        self._wake = asyncio.Event()
        self._next_token_at = 0.0  # when the next token is to be sent

    def hold(self) -> None:
        """Hang before the next token."""
        self._hold = True

    def release(self) -> None:
        """End one hang, the current one or the next."""
        self._permits += 1
        self._wake.set()

    async def play(self) -> None:
        """Send the complete answer."""
        reply = self.reply
        await self._wait(reply.before_headers)
        if reply.drop_before_headers:
            self._connection.drop()
        elif reply.status != 200:
            self._fail()
        elif self._streams:
            await self._stream()
        else:
            await self._plain()

    def _fail(self) -> None:
        after = self.reply.retry_after
        extra = None if after is None else {"retry-after": f"{after:g}"}
        self._whole(self._api.error_body(self.reply.status, self.reply.error), extra)

    async def _plain(self) -> None:
        if await self._tokens(lambda _: None):
            malformed = self.reply.malformed
            self._whole(self._encoder.whole() if malformed is None else malformed, None)

    async def _stream(self) -> None:
        self._headers(http11.response_head(200, "text/event-stream; charset=utf-8", None))
        if not await self._tokens(lambda data: self._connection.write(http11.chunked(data))):
            return
        if self.reply.malformed is not None:
            end = http11.chunked(self.reply.malformed) if self.reply.malformed else b""
        else:
            end = b"".join(map(http11.chunked, self._encoder.last()))
        await self._finish(end + http11.END)

    async def _finish(self, end: bytes) -> None:
        self._connection.write(end)
        await self._connection.drain()
        self._log.update(self._exchange, finished=not self._connection.ended)

    def _whole(self, body: bytes, extra: dict[str, str] | None) -> None:
        self._headers(http11.response_head(self.reply.status, "application/json", len(body), extra))
        self._connection.write(body)
        self._log.update(self._exchange, finished=not self._connection.ended)

    def _headers(self, head: bytes) -> None:
        self._connection.write(head)
        if not self._connection.ended:
            self._log.update(self._exchange, headers_at=time.monotonic())

    async def _tokens(self, send: Callable[[bytes], None]) -> bool:
        """Generate the tokens; return False if the reply's `drop_after` closed the connection."""
        await self._wait(self.reply.before_first_token)
        if self.reply.malformed is None or self.reply.has_tokens:
            send(self._encoder.first())
        events, sent, total = self._encoder.events(), 0, self.reply.count()
        while True:
            if sent == self.reply.drop_after:
                self._connection.drop()
                return False
            if sent == self.reply.stall_after:
                await self._hang()
            if sent >= total:
                return True
            if self._hold:
                self._hold = False
                await self._hang()
            await self._pace(sent)
            count = min(total, self._limit(sent)) - sent
            send(b"".join([next(events) for _ in range(count)]))
            sent = self._count_sent(sent + count, count)
            await self._connection.drain()

    def _limit(self, sent: int) -> int:
        """Return the number of sent tokens after the next write."""
        stops = [s for s in (self.reply.stall_after, self.reply.drop_after) if s is not None and s > sent]
        return min([*stops, sent + (_FLOOD_BATCH if self.reply.flood else 1)])

    def _count_sent(self, sent: int, more: int) -> int:
        exchange = self._exchange
        exchange.writes.append((time.monotonic(), sent))
        late = exchange.tokens_sent_after_close + (more if self._connection.ended else 0)
        self._log.update(exchange, tokens_sent=sent, tokens_sent_after_close=late)
        return sent

    async def _pace(self, sent: int) -> None:
        interval = self.reply.token_interval
        if not interval:
            await asyncio.sleep(0)
            return
        now = time.monotonic()
        if not sent:
            self._next_token_at = now
        await asyncio.sleep(max(0.0, self._next_token_at - now))
        self._next_token_at += interval

    async def _wait(self, seconds: float) -> None:
        if seconds == HANG:
            await self._hang()
        elif seconds:
            await asyncio.sleep(seconds)

    async def _hang(self) -> None:
        while not self._permits:
            self._wake.clear()
            await self._wake.wait()
        self._permits -= 1
        self._next_token_at = time.monotonic()
