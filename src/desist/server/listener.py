"""The listening sockets of a server. They accept only as many connections as there is room for."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import sys
from typing import Any

from desist.exceptions import ConfigurationError
from desist.server.connection_table import TURN, ConnectionTable, network_of

__all__ = ["Listener", "listen"]

log = logging.getLogger("desist.server")
#: Errors of `accept` for which the process or the system has run out of a resource.
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Listener(socket.socket):
    """A listening socket whose `accept` counts connections.

    asyncio calls `accept` repeatedly in one iteration of the loop until it raises BlockingIOError, and again in the
    next iteration. asyncio logs any other OSError with a traceback, up to once per entry of the backlog, so `accept`
    raises no other.
    """

    connections: ConnectionTable

    def __init__(self, family: int, connections: ConnectionTable) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self.connections = connections
        self._accepted = 0  #: in this iteration of the loop
        self._spare: int | None = None
        self._reserve()

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection that there is room for. Others get a 503 response and are closed.

        Raises:
            BlockingIOError: none is waiting, or enough were accepted in this iteration.
        """
        while self._accepted < TURN:
            self._accepted += 1
            try:
                connection, address = super().accept()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._relieve(error)
                self._accepted = 0
                raise BlockingIOError from error
            if self.connections.accept(connection.fileno(), network_of(str(address[0]))):
                return connection, address
            _refuse(connection)
        self._accepted = 0
        raise BlockingIOError

    def _relieve(self, error: OSError) -> None:
        """Descriptors have run out: close a waiting connection, or else refuse the new one.

        Refusing needs a descriptor, so the spare one is closed for that moment. Otherwise the new connection would stay
        in the backlog and wake the loop in every iteration.
        """
        log.warning("cannot accept a connection: %s", error.strerror)
        if self.connections.drop_oldest("no file descriptors are left") or self._spare is None:
            return
        os.close(self._spare)
        self._spare = None
        with contextlib.suppress(OSError):
            _refuse(super().accept()[0])
        self._reserve()

    def _reserve(self) -> None:
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the socket and the spare descriptor. Does nothing the second time."""
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        super().close()


def _refuse(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setblocking(False)
        connection.send(REFUSED)
    connection.close()


def listen(host: str, port: int, connections: ConnectionTable) -> list[Listener]:
    """Return a bound socket for each address of a host name.

    Raises:
        ConfigurationError: the port is in use, or the name is unknown.
    """
    made: list[Listener] = []
    try:
        for family, _, _, _, address in dict.fromkeys(
            socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        ):
            try:
                listener = Listener(family, connections)
            except OSError:  # a machine without IPv6
                continue
            made.append(listener)
            if sys.platform != "win32":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.setblocking(False)
    except OSError as error:
        for listener in made:
            listener.close()
        raise ConfigurationError(f"cannot listen on host={host!r}, port={port}: {error.strerror or error}") from error
    return made
