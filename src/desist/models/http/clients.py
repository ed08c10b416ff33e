"""The SDKs' clients: one for each event loop and settings, made when first needed, closed with their loop.

Called by `model`. Making one is slow (imports, certificates), so that happens beside the loop. The clients of a loop
share one connection pool for each address. They are closed by the loop itself: `guard` is an async generator, and
a loop that ends in order (`asyncio.run` does) finishes those. Which SDK it is, `Settings.sdk` knows.
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

if TYPE_CHECKING:
    import ssl

    import httpx2

__all__ = ["Settings", "client_for", "http_client"]

MAX_CLIENTS = 64  #: for each loop; they are small, the pools under them are shared

#: Variables that decide how a provider is reached: other values need another pool.
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_REACH = (*_PROXIES, *(name.lower() for name in _PROXIES), "SSL_CERT_FILE", "SSL_CERT_DIR")


def _reach() -> tuple[str | None, ...]:
    return tuple(os.environ.get(name) for name in _REACH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What makes one client differ from another. Equal settings share a client."""

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


_homes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopClients] = weakref.WeakKeyDictionary()
_homes_lock = threading.Lock()


def _new_lock() -> None:
    """In a forked child: the thread that held the lock, if one did, isn't here."""
    global _homes_lock
    _homes_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


async def client_for(settings: Settings) -> Any:
    """Return the client of the running loop for `settings`.

    Raises:
        ConfigurationError: the environment's proxy can't be used, or `http_client` is of a wrong type.
    """
    home = await _home()
    client = home.clients.get(settings)
    if client is None:
        async with home.lock:
            client = home.clients.get(settings)
            if client is None:
                client = await to_daemon_thread(lambda: _build(settings, home), "desist-http-client")
                home.keep(settings, client)
    return client


def http_client(
    *, ssl_context: ssl.SSLContext | None = None, proxy: str | None = None, timeout: float | None = None
) -> httpx2.AsyncClient:
    """Return an HTTP client on desist's own network, for a model's `http_client=`: use it on one loop only.

    Args:
        ssl_context: whom to trust, for instance a company's own authority; default: the system and SSL_CERT_FILE.
        proxy: its URL; default: none. The environment isn't asked.
        timeout: seconds for each connect, read and write; default: the SDK's.
    """
    import httpx2

    from desist.models.http.transport import CancellableTransport

    limits: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
    transport = CancellableTransport(ssl_context=ssl_context, proxy=proxy)
    return httpx2.AsyncClient(transport=transport, follow_redirects=True, trust_env=False, **limits)


async def _home() -> _LoopClients:
    loop = asyncio.get_running_loop()
    home = _homes.get(loop)
    if home is None:
        home = _LoopClients()
        with _homes_lock:
            for old in [old for old in _homes if old.is_closed()]:
                del _homes[old]
            _homes[loop] = home
        home.guard = _close_with_loop(loop, home)
        await anext(home.guard)  # runs to its `yield` without waiting
    return home


async def _close_with_loop(loop: asyncio.AbstractEventLoop, home: _LoopClients) -> AsyncGenerator[None, None]:
    """Stand open until the loop finishes its generators; then close what it used."""
    try:
        yield
    finally:
        with _homes_lock:
            _homes.pop(loop, None)
        for pool in home.pools.values():
            await pool.aclose()


def _build(settings: Settings, home: _LoopClients) -> Any:
    """Make a client; slow, so never on a loop. The home's lock is held, so that its pools are ours to change."""
    import httpx2

    given = settings.http_client
    if given is not None and not isinstance(given, httpx2.AsyncClient):
        kind = f"{type(given).__module__}.{type(given).__qualname__}"
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
        http_client=given if given is not None else _pool(settings, home),
        **known,
    )


def _pool(settings: Settings, home: _LoopClients) -> httpx2.AsyncClient:
    import httpx2

    url = urllib.parse.urlsplit(settings.base_url)
    key = (url.scheme, url.netloc, settings._network_reach)
    if key not in home.pools:
        context = httpx2.create_ssl_context() if url.scheme == "https" else None
        home.pools[key] = http_client(ssl_context=context, proxy=_environment_proxy(url))
    return home.pools[key]


def _environment_proxy(url: urllib.parse.SplitResult) -> str | None:
    """Return the proxy that the environment names for `url`, by the rules of the standard library.

    Never one for this machine itself: a model on loopback would be asked through a stranger.
    """
    if _is_loopback(url.hostname or ""):
        return None
    import urllib.request  # brings in half of the standard library: not at the import of a model

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
