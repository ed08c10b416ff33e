"""An httpx transport over httpcore's connection pool with our network backend. Uses public interfaces only.

Called by `client`. Its one addition: a body that is over lets go of the socket *before* the connection returns to the
pool, so that a late cancel can't shut down what serves another run by then.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, Iterator
from typing import Any

import httpcore2
import httpx2

from desist.cancel.upstream import current_upstream
from desist.exceptions import ConfigurationError
from desist.models.http.network_backend import CancellableBackend

__all__ = ["CancellableTransport"]

MAX_CONNECTIONS = 1000
MAX_IDLE = 100
IDLE_SECONDS = 5.0
PROBE_SECONDS = 60  #: of silence before TCP keepalive probes


class CancellableTransport(httpx2.AsyncBaseTransport):
    """Sends requests over connections that a canceller can shut down. `proxy` is an http, https or socks5 URL."""

    def __init__(self, *, ssl_context: ssl.SSLContext | None = None, proxy: str | None = None) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context,
            proxy=_proxy(proxy) if proxy else None,
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=MAX_IDLE,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=CancellableBackend(),
            socket_options=_probes(),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request. Return the response when its headers have arrived."""
        url = request.url
        with _translated():
            response = await self._pool.handle_async_request(
                httpcore2.Request(
                    method=request.method,
                    url=httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx2.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(response.stream),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


class _Body(httpx2.AsyncByteStream):
    """The streamed body of a response."""

    def __init__(self, parts: Any) -> None:
        self._parts: AsyncIterable[bytes] = parts

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        parts: Any = aiter(self._parts)
        with _translated():
            async with contextlib.aclosing(parts):
                async for part in parts:
                    yield part

    async def aclose(self) -> None:
        request = current_upstream()
        if request is not None:
            request.release_all()
        close = getattr(self._parts, "aclose", None)
        if close is not None:
            await close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn httpcore's errors into httpx's, which have the same names."""
    try:
        yield
    except (
        httpcore2.TimeoutException,
        httpcore2.NetworkError,
        httpcore2.ProtocolError,
        httpcore2.ProxyError,
        httpcore2.UnsupportedProtocol,
    ) as error:
        twin = getattr(httpx2, type(error).__name__, httpx2.TransportError)
        raise twin(str(error)) from None


def _probes() -> list[tuple[int, int, int]]:
    """Return socket options that detect a dead peer, which a stalled stream does not show otherwise."""
    named = [("TCP_KEEPIDLE", PROBE_SECONDS), ("TCP_KEEPINTVL", PROBE_SECONDS), ("TCP_KEEPCNT", 5)]
    here = [(getattr(socket, name), value) for name, value in named if hasattr(socket, name)]
    return [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *((socket.IPPROTO_TCP, name, value) for name, value in here)]


def _proxy(url: str) -> httpcore2.Proxy:
    try:
        proxy = httpx2.Proxy(url)
    except (ValueError, httpx2.InvalidURL) as error:
        raise ConfigurationError(f"the proxy in the environment is invalid: {error}") from None
    if proxy.url.scheme.startswith("socks"):
        try:
            import socksio  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
        except ImportError:
            raise ConfigurationError("a SOCKS proxy needs the package socksio: pip install socksio") from None
    at = httpcore2.URL(scheme=proxy.url.raw_scheme, host=proxy.url.raw_host, port=proxy.url.port, target=b"/")
    return httpcore2.Proxy(at, auth=proxy.raw_auth, headers=proxy.headers.raw, ssl_context=proxy.ssl_context)
