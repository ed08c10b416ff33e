"""The server of the loopback provider: listen, choose replies, stop. It runs in a thread or in a child process."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from desist.testing.provider.connection import Connection
from desist.testing.provider.exchange import Exchange, ExchangeLog
from desist.testing.provider.replies import Reply
from desist.testing.provider.reply_player import ReplyPlayer

__all__ = ["Check", "Choose", "ProviderServer"]

Check = Callable[[str, Mapping[str, Any]], None]
Choose = Callable[[Exchange], Reply | None]


class ProviderServer:
    """A server on 127.0.0.1. All methods run on its loop, `choose` too."""

    def __init__(
        self, log: ExchangeLog, default: Reply, choose: Choose | None = None, check: Check | None = None
    ) -> None:
        self.log = log
        self.connections: set[Connection] = set()
        self.answers: dict[int, ReplyPlayer] = {}
        self.idle = asyncio.Event()  #: set when the last connection ends
        self._choose, self._check = choose, check
        self._defaults: dict[str | None, Reply] = {None: default}
        self._queues: dict[str | None, deque[Reply]] = {}
        self._server: asyncio.Server | None = None

    async def start(self, port: int, tls: tuple[str, str] | None) -> int:
        """Listen, and return the port."""
        context = None
        if tls is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*tls)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), "127.0.0.1", port, ssl=context, backlog=1024)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening, close every connection, and wait until all have ended."""
        await self._stop_listening()
        tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for connection in list(self.connections):
            connection.abort()
        for task in tasks:  # answers with `ignore_disconnect`
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self.connections:
            self.idle.clear()
            await self.idle.wait()

    async def _stop_listening(self) -> None:
        """Stop accepting, and wait until every accepted socket has become a connection.

        asyncio leaks an accepted socket if its server is closed, or its task cancelled, before the connection is made.
        """
        if self._server is not None:
            for listener in self._server.sockets:
                asyncio.get_running_loop().remove_reader(listener.fileno())
            for _ in range(4):
                await asyncio.sleep(0)
            self._server.close()

    def enqueue(self, replies: Iterable[Reply], model: str | None) -> None:
        """Add replies for the next requests, of one model or of any."""
        self._queues.setdefault(model, deque()).extend(replies)

    def set_default(self, reply: Reply, model: str | None) -> None:
        """Set the reply for requests that find no queued one."""
        self._defaults[model] = reply

    def control(self, index: int, verb: str) -> None:
        """Hold or release the answer to an exchange. Does nothing if the answer has ended."""
        answer = self.answers.get(index)
        if answer is None:
            return
        if verb == "hold":
            answer.hold()
        else:
            answer.release()

    def on_opened(self, connection: Connection) -> None:
        self.connections.add(connection)

    def on_closed(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self.idle.set()

    def choose(self, exchange: Exchange) -> Reply:
        """Return the reply to a request.

        The first that exists: the result of `choose`, the model's queue, the model's default, the common queue, the
        common default.

        Raises:
            AssertionError: the check refuses the request.
        """
        if self._check is not None:
            self._check(exchange.path, exchange.request)
        reply = self._choose(exchange) if self._choose is not None else None
        if reply is not None:
            return reply
        model = exchange.request.get("model")
        for key in (model, None) if isinstance(model, str) else (None,):
            if self._queues.get(key):
                return self._queues[key].popleft()
            if key in self._defaults:
                return self._defaults[key]
        raise AssertionError("a server has a default reply")
