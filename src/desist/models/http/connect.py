"""Connects to a host name: name look-up in a thread, then staggered connects to its addresses (RFC 8305).

Called by `network_backend`. Every socket is noted in the current `Upstream` from its birth, so that a canceller can
stop a connect too. Must know nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import socket
from typing import Any, NamedTuple

from desist.cancel.upstream import Upstream, current_upstream
from desist.runtime.daemon_thread import to_daemon_thread

__all__ = ["Address", "connect", "resolve"]

STAGGER = 0.25  #: seconds after which the next address is tried in parallel


class Address(NamedTuple):
    """An address of a family."""

    family: int
    where: tuple[Any, ...]


async def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of `host` with alternating families. A cancel abandons the look-up.

    Raises:
        OSError: the name is unknown, or the look-up failed.
    """
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return await to_daemon_thread(lambda: _in_turns(_resolve(host, port)), f"desist-dns {host}")
    return [Address(socket.AF_INET if version == 4 else socket.AF_INET6, (host, port))]


def _resolve(host: str, port: int) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [Address(family, where) for family, _, _, _, where in found]


def _in_turns(addresses: list[Address]) -> list[Address]:
    """Alternate the families, so that a broken IPv6 costs one stagger, not many."""
    first = [a for a in addresses if a.family == addresses[0].family]
    other = [a for a in addresses if a.family != addresses[0].family]
    return [a for pair in itertools.zip_longest(first, other) for a in pair if a is not None]


async def connect(addresses: list[Address], local_address: str | None = None) -> socket.socket:
    """Return a non-blocking socket that is connected to the first address that responds.

    Raises:
        OSError: none did; the error is the last one's.
    """
    if len(addresses) == 1:
        return await _connect_one(addresses[0], local_address)
    attempts: list[asyncio.Task[socket.socket]] = []
    winner: asyncio.Task[socket.socket] | None = None
    try:
        winner = await _happy_eyeballs(addresses, local_address, attempts)
        return winner.result()
    finally:
        for attempt in attempts:
            if attempt is not winner:
                attempt.add_done_callback(_discard)
                attempt.cancel()


async def _happy_eyeballs(
    addresses: list[Address], local_address: str | None, attempts: list[asyncio.Task[socket.socket]]
) -> asyncio.Task[socket.socket]:
    """Return the first attempt that succeeded, or the last that failed. Adds all attempts to `attempts`."""
    waiting = list(addresses)
    pending: set[asyncio.Task[socket.socket]] = set()
    while True:
        if waiting:
            attempt = asyncio.create_task(_connect_one(waiting.pop(0), local_address))
            attempts.append(attempt)
            pending.add(attempt)
        patience = STAGGER if waiting else None
        done, pending = await asyncio.wait(pending, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        for attempt in done:
            if attempt.exception() is None:
                return attempt
        if not (pending or waiting):
            return done.pop()


def _discard(attempt: asyncio.Task[socket.socket]) -> None:
    """Close the socket of a late attempt. Retrieve the error of a failed one, so that asyncio does not log it."""
    if not attempt.cancelled() and attempt.exception() is None:
        discard(attempt.result(), current_upstream())


def discard(sock: socket.socket, holder: Upstream | None) -> None:
    """Forget a socket, then close it: a canceller must not shut down a new socket that reuses the descriptor."""
    if holder is not None:
        holder.release(sock)
    sock.close()


async def _connect_one(address: Address, local_address: str | None) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    holder = current_upstream()
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if local_address is not None:
            sock.bind((local_address, 0))
        if holder is not None:
            holder.hold(sock)
        await asyncio.get_running_loop().sock_connect(sock, address.where)
    except BaseException:
        discard(sock, holder)
        raise
    return sock
