"""Clients of the SDKs: one per event loop and settings, created when first used, closed with their loop.

Called by `model`. Creating one is slow (imports, certificates), so it is done in a thread. The clients of a loop share
one connection pool per address. The loop closes them: `guard` is an async generator, and `asyncio.run` closes async
generators when it ends.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import threading
import urllib.parse
import weakref
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from desist.exceptions import UnsupportedError
from desist.models.http.sdk import Sdk
from desist.runtime.daemon_thread import to_daemon_thread
from desist.runtime.fork_hooks import register_at_fork

if TYPE_CHECKING:
    import ssl

    import httpx2

__all__ = ["Settings", "client_for", "http_client"]

MAX_CLIENTS = 64  #: per loop; clients are small, because they share the pools

#: Environment variables that a pool depends on: other values need another pool.
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_REACH = (*_PROXIES, *(name.lower() for name in _PROXIES), "SSL_CERT_FILE", "SSL_CERT_DIR")


def _reach() -> tuple[str | None, ...]:
    return tuple(os.environ.get(name) for name in _REACH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a client. Equal settings share a client."""

    sdk: Sdk
    base_url: str = field(repr=False)
    api_key: str = field(repr=False)
    organization: str | None = None
    timeout: Any = field(default=None, hash=False)
    headers: dict[str, str] = field(default_factory=dict, hash=False, repr=False)
    query: dict[str, object] = field(default_factory=dict, hash=False, repr=False)
    http_client: Any = field(default=None, repr=False)
    _network_reach: tuple[str | None, ...] = field(default_factory=_reach, repr=False)


class _LoopClients:
    """The clients and pools of one loop."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.clients: dict[Settings, Any] = {}
        self.pools: dict[tuple[Any, ...], httpx2.AsyncClient] = {}
        self.guard: AsyncGenerator[None, None] | None = None

    def keep(self, settings: Settings, client: Any) -> None:
        while len(self.clients) >= MAX_CLIENTS:
            del self.clients[next(iter(self.clients))]
        self.clients[settings] = client


_clients_of_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopClients] = weakref.WeakKeyDictionary()
_clients_lock = threading.Lock()


def _new_lock() -> None:
    """Replace the lock in a forked child: a thread that held it doesn't exist there."""
    global _clients_lock
    _clients_lock = threading.Lock()


register_at_fork(after_in_child=_new_lock)


async def client_for(settings: Settings) -> Any:
    """Return the client of the running loop for `settings`.

    Raises:
        ConfigurationError: the proxy of the environment is invalid, or `http_client` has the wrong type.
    """
    loop_clients = await _loop_clients()
    client = loop_clients.clients.get(settings)
    if client is None:
        async with loop_clients.lock:
            client = loop_clients.clients.get(settings)
            if client is None:
                client = await to_daemon_thread(lambda: _build(settings, loop_clients), "desist-http-client")
                loop_clients.keep(settings, client)
    return client


def http_client(
    *, ssl_context: ssl.SSLContext | None = None, proxy: str | None = None, timeout: float | None = None
) -> httpx2.AsyncClient:
    """Return an HTTP client on desist's own network, for a model's `http_client=`. Use it on one loop only.

    Args:
        ssl_context: the trusted authorities. Default: those of the system and SSL_CERT_FILE.
        proxy: the URL of a proxy. Default: none; the environment is not used.
        timeout: seconds for each connect, read and write; default: the SDK's.
    """
    import httpx2

    from desist.models.http.transport import CancellableTransport

    limits: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
    transport = CancellableTransport(ssl_context=ssl_context, proxy=proxy)
    return httpx2.AsyncClient(transport=transport, follow_redirects=True, trust_env=False, **limits)


async def _loop_clients() -> _LoopClients:
    loop = asyncio.get_running_loop()
    loop_clients = _clients_of_loop.get(loop)
    if loop_clients is None:
        loop_clients = _LoopClients()
        with _clients_lock:
            for old in [old for old in _clients_of_loop if old.is_closed()]:
                del _clients_of_loop[old]
            _clients_of_loop[loop] = loop_clients
        loop_clients.guard = _close_with_loop(loop, loop_clients)
        await anext(loop_clients.guard)  # runs to the `yield` without suspending
    return loop_clients


async def _close_with_loop(loop: asyncio.AbstractEventLoop, loop_clients: _LoopClients) -> AsyncGenerator[None, None]:
    """Stay suspended until the loop closes its async generators, then close the clients and pools."""
    try:
        yield
    finally:
        with _clients_lock:
            _clients_of_loop.pop(loop, None)
        for pool in loop_clients.pools.values():
            await pool.aclose()


def _build(settings: Settings, loop_clients: _LoopClients) -> Any:
    """Create a client. Slow: call it in a thread. Hold the lock of `loop_clients`, whose pools are changed."""
    import httpx2

    custom = settings.http_client
    if custom is not None and not isinstance(custom, httpx2.AsyncClient):
        kind = f"{type(custom).__module__}.{type(custom).__qualname__}"
        raise UnsupportedError(f"http_client must be an httpx2.AsyncClient, not a {kind}")
    known: dict[str, Any] = {} if settings.timeout is None else {"timeout": settings.timeout}
    if settings.organization is not None:
        known["organization"] = settings.organization
    return settings.sdk.client(
        api_key=settings.api_key,
        base_url=settings.base_url,
        max_retries=0,
        default_headers=settings.headers or None,
        default_query=settings.query or None,
        http_client=custom if custom is not None else _pool(settings, loop_clients),
        **known,
    )


def _pool(settings: Settings, loop_clients: _LoopClients) -> httpx2.AsyncClient:
    import httpx2

    url = urllib.parse.urlsplit(settings.base_url)
    key = (url.scheme, url.netloc, settings._network_reach)
    if key not in loop_clients.pools:
        context = httpx2.create_ssl_context() if url.scheme == "https" else None
        loop_clients.pools[key] = http_client(ssl_context=context, proxy=_environment_proxy(url))
    return loop_clients.pools[key]


def _environment_proxy(url: urllib.parse.SplitResult) -> str | None:
    """Return the proxy that the environment names for `url`, by the rules of the standard library.

    None for a loopback address, so that requests to a model on this machine never leave the machine.
    """
    if _is_loopback(url.hostname or ""):
        return None
    import urllib.request  # imports many modules, so not at the import of a model

    named = urllib.request.getproxies()
    proxy = named.get(url.scheme) or named.get("all")
    if not proxy or urllib.request.proxy_bypass(url.netloc.rpartition("@")[2]):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
