"""Network backend of httpcore, on sockets that a canceller can shut down.

Called by the connection pool of `transport`. Rules that it keeps:
- while a stream works for a request, its raw socket is noted in that request's `Upstream`, and in no other's;
- before a socket is closed it is forgotten there, so that its number can't be shut down in another's hand;
- a cancel in a TLS handshake closes the socket (the stock backend leaves it open);
- closing starts with `shutdown()`: the provider sees the end even if a second cancel interrupts the rest.

Must know nothing of models, retries or runs.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Iterable
from typing import Any

import anyio
import anyio.abc
import httpcore2
from anyio.streams.tls import TLSAttribute, TLSStream

from desist.cancel.upstream import Upstream, current_upstream
from desist.models.http.connect import connect, discard, resolve

__all__ = ["CancellableBackend", "CancellableStream"]

#: anyio's errors for a broken connection.
_BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, ssl.SSLError, OSError)


class CancellableStream(httpcore2.AsyncNetworkStream):
    """A connection. `sock` is the raw socket under `stream`; `peer` is "host:port", for messages."""

    def __init__(self, stream: anyio.abc.ByteStream, sock: socket.socket, peer: str) -> None:
        self._stream = stream
        self._sock = sock
        self._peer = peer
        self._holder: Upstream | None = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return up to `max_bytes`, or b"" at the end."""
        self._hold()
        try:
            async with asyncio.timeout(timeout):
                return await self._stream.receive(max_bytes)
        except anyio.EndOfStream:
            return b""
        except TimeoutError:
            raise httpcore2.ReadTimeout(f"{self._peer} sent no data for {timeout} s") from None
        except _BROKEN as error:
            raise httpcore2.ReadError(f"the connection to {self._peer} was lost: {_format_error(error)}") from None

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send the whole buffer."""
        if not buffer:
            return
        self._hold()
        try:
            async with asyncio.timeout(timeout):
                await self._stream.send(buffer)
        except TimeoutError:
            raise httpcore2.WriteTimeout(f"{self._peer} accepted no data for {timeout} s") from None
        except _BROKEN as error:
            raise httpcore2.WriteError(f"the connection to {self._peer} was lost: {_format_error(error)}") from None

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """Return the connection with TLS. The socket is closed if the handshake fails."""
        self._hold()
        try:
            async with asyncio.timeout(timeout):
                inner = await TLSStream.wrap(
                    self._stream,
                    ssl_context=ssl_context,
                    hostname=server_hostname,
                    standard_compatible=False,
                    server_side=False,
                )
        except TimeoutError:
            await self._abort()
            raise httpcore2.ConnectTimeout(f"{self._peer} didn't finish the TLS handshake in {timeout} s") from None
        except _BROKEN as error:
            await self._abort()
            raise httpcore2.ConnectError(
                f"the TLS handshake with {self._peer} failed: {_format_error(error)}"
            ) from None
        except BaseException:
            await self._abort()
            raise
        stream = CancellableStream(inner, self._sock, self._peer)
        stream._holder = self._holder
        return stream

    async def aclose(self) -> None:
        """Close the connection at once. Unsent bytes are dropped."""
        holder, self._holder = self._holder, None
        if holder is not None:
            holder.release(self._sock)
        if holder is None or not holder.shut:  # otherwise the canceller has shut it down
            try:
                self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # already closed, or the peer has closed it
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        """Return what httpcore asks for: "ssl_object", "socket", "is_readable", "client_addr", "server_addr"."""
        if info == "ssl_object":
            return self._stream.extra(TLSAttribute.ssl_object, None)
        if info == "client_addr":
            return self._stream.extra(anyio.abc.SocketAttribute.local_address, None)
        if info == "server_addr":
            return self._stream.extra(anyio.abc.SocketAttribute.remote_address, None)
        if info == "socket":
            return self._sock
        return _readable(self._sock) if info == "is_readable" else None

    def _hold(self) -> None:
        holder = current_upstream()
        if holder is not None:
            self._holder = holder
            holder.hold(self._sock)

    async def _abort(self) -> None:
        with anyio.CancelScope(shield=True):
            await self.aclose()


class CancellableBackend(httpcore2.AsyncNetworkBackend):
    """Opens `CancellableStream`s on asyncio and compatible loops."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Return a connection to `host`. `timeout` is for look-up and connect together."""
        peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            async with asyncio.timeout(timeout):
                sock = await connect(await resolve(host, port), local_address)
            return await _wrap(sock, peer, socket_options or ())
        except TimeoutError:
            waited = f" within {timeout} s" if timeout is not None else ""
            raise httpcore2.ConnectTimeout(f"{peer} didn't answer{waited}") from None
        except (OSError, ValueError, anyio.BrokenResourceError) as error:
            raise httpcore2.ConnectError(f"can't connect to {peer}: {_format_error(error)}") from None

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """Raise: Unix sockets are not supported."""
        raise httpcore2.UnsupportedProtocol(f"Unix sockets are not supported, got {path!r}: use a URL with a host")

    async def sleep(self, seconds: float) -> None:
        """Sleep. Only httpcore's own connect retries do this, which are disabled."""
        await asyncio.sleep(seconds)


async def _wrap(sock: socket.socket, peer: str, options: Iterable[Any]) -> CancellableStream:
    holder = current_upstream()
    try:
        for option in options:
            sock.setsockopt(*option)
        stream = CancellableStream(await anyio.abc.SocketStream.from_socket(sock), sock, peer)
    except BaseException:
        discard(sock, holder)
        raise
    stream._holder = holder
    return stream


def _readable(sock: socket.socket) -> bool:
    """Return whether a read would not block. On an idle connection this means that the peer has closed it."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _format_error(error: BaseException) -> str:
    cause = error.__cause__ or error
    if isinstance(cause, ConnectionError) and cause.errno:
        return os.strerror(cause.errno)  # asyncio's message repeats the address
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
