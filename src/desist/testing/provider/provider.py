"""`LoopbackProvider`: a provider on 127.0.0.1 for tests and measurements, over real sockets.

The provider runs on its own loop in a daemon thread; with `process=True` in a child process, so that its work doesn't
slow the measured program. Standard library only; the provider has no notion of runs or agents.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, ClassVar

from desist.exceptions import ConfigurationError
from desist.testing.provider.exchange import Exchange, ExchangeLog
from desist.testing.provider.remote import ProviderProcess
from desist.testing.provider.replies import Reply
from desist.testing.provider.server import Check, Choose, ProviderServer

__all__ = ["LoopbackProvider"]

TlsFiles = tuple[str | os.PathLike[str], str | os.PathLike[str]]


class LoopbackProvider:
    """A scripted provider that records every request. Use the provider as a context manager.

    The provider implements chat completions, the Responses API and the Messages API, at `/v1/chat/completions`,
    `/v1/responses` and `/v1/messages`.

    Args:
        default: the reply if none is queued.
        models: replies by model name, if none is queued for that model.
        choose: called with each `Exchange` on the provider's loop; returns a `Reply`, or None for the usual choice.
            The function must not block. Not with `process=True`.
        process: run in a child process. Its counts reach this process at the first token, at the end, and every
            5 ms in between. The child ends with this process. Both use CLOCK_MONOTONIC, so times are comparable.
        tls: paths of the certificate and the key.
        port: the port to listen on; 0 selects a free one.

    Raises:
        ConfigurationError: `choose` is combined with `process=True`.
    """

    #: Called with the path and the JSON body of each request; an AssertionError refuses the request: the response is
    #: 400 with its text. A test session sets it once, for all providers except those in a child process.
    check: ClassVar[Check | None] = None

    def __init__(
        self,
        default: Reply | None = None,
        *,
        models: Mapping[str, Reply] | None = None,
        choose: Choose | None = None,
        process: bool = False,
        tls: TlsFiles | None = None,
        port: int = 0,
    ) -> None:
        if process and choose is not None:
            raise ConfigurationError("LoopbackProvider: choose= can't be sent to another process: omit process=True")
        files = None if tls is None else (os.fspath(tls[0]), os.fspath(tls[1]))
        self._log = ExchangeLog(lambda index, verb: self._send("control", index=index, verb=verb))
        self._tls = files
        self._host = ProviderProcess(self._log) if process else _ThreadHost(self._log, choose, type(self).check)
        self._default, self._models, self._wanted_port = default or Reply(), dict(models or {}), port
        self._port: int | None = None

    def __enter__(self) -> LoopbackProvider:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start to listen. The context manager calls this. Raises OSError if the port is in use."""
        if self._port is not None:
            raise ConfigurationError("LoopbackProvider: already started; create a new one")
        self._port = self._host.start(self._wanted_port, self._tls)
        self.set_default(self._default)
        for model, reply in self._models.items():
            self.set_default(reply, model=model)

    def stop(self) -> None:
        """Close every connection and stop. A second call has no effect."""
        self._host.stop()

    @property
    def port(self) -> int:
        """The port that the provider listens on."""
        if self._port is None:
            raise ConfigurationError("LoopbackProvider: not started; use `with LoopbackProvider() as provider:`")
        return self._port

    @property
    def base_url(self) -> str:
        """The base URL for a client, with "/v1"."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/v1"

    def enqueue(self, *replies: Reply, model: str | None = None) -> None:
        """Queue replies for the next requests, in order; with `model`, for requests of that model only."""
        self._send("enqueue", replies=replies, model=model)

    def set_default(self, reply: Reply, *, model: str | None = None) -> None:
        """Set the reply if none is queued; with `model`, for requests of that model only."""
        self._send("set_default", reply=reply, model=model)

    @property
    def exchanges(self) -> list[Exchange]:
        """The exchanges so far, in order of arrival."""
        return list(self._log.exchanges)

    @property
    def connections(self) -> int:
        """The number of connections so far."""
        return self._log.connections

    @property
    def open_connections(self) -> int:
        """The number of open connections."""
        return self._log.open_connections

    def wait_request(self, n: int = 1, timeout: float = 10.0) -> Exchange:
        """Wait until the `n`-th request, from 1, has arrived; return its exchange. Raises TimeoutError."""
        log = self._log
        log.wait(lambda: len(log.exchanges) >= n, timeout, f"{len(log.exchanges)} requests, not {n}")
        return log.exchanges[n - 1]

    def wait_open_connections(self, n: int, timeout: float = 10.0) -> None:
        """Wait until exactly `n` connections are open. Raises TimeoutError."""
        log = self._log
        log.wait(lambda: log.open_connections == n, timeout, f"{log.open_connections} open connections, not {n}")

    def _send(self, method: str, **arguments: Any) -> None:
        _ = self.port  # raises if the provider isn't started
        self._host.send(method, arguments)


class _ThreadHost:
    """Runs a server on a loop in a daemon thread."""

    def __init__(self, log: ExchangeLog, choose: Choose | None, check: Check | None) -> None:
        self._log, self._choose, self._check = log, choose, check
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._port = 0

    def start(self, port: int, tls: tuple[str, str] | None) -> int:
        """Start the thread and wait until the server listens."""
        run: Callable[[], None] = lambda: asyncio.run(self._main(port, tls))  # noqa: E731
        self._thread = threading.Thread(target=run, name="loopback-provider", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._thread.join()
            self._thread = None
            raise self._error
        return self._port

    def stop(self) -> None:
        """Stop the server and join the thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            thread.join()

    def send(self, verb: str, arguments: dict[str, Any]) -> None:
        """Call a method of the server on its loop. Does nothing if the server has stopped."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(lambda: getattr(self._server, verb)(**arguments))

    async def _main(self, port: int, tls: tuple[str, str] | None) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._server = ProviderServer(self._log, Reply(), self._choose, self._check)
        try:
            self._port = await self._server.start(port, tls)
        except Exception as error:
            self._error = error
            return
        finally:
            self._ready.set()
        await self._stopping.wait()
        await self._server.stop()
