"""The sockets that a server listens on. They accept only what there is room for, also when descriptors have run out."""

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
#: What the system has too little of.
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Listener(socket.socket):
    """A listening socket whose `accept` counts.

    In one turn the loop calls `accept` again and again, until BlockingIOError is raised; if more is there it comes back
    in the next. Any other OSError it logs with a traceback, once for each place in the backlog: none is raised here.
    """

    connections: ConnectionTable

    def __init__(self, family: int, connections: ConnectionTable) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self.connections = connections
        self._accepted = 0  #: since the turn began
        self._spare: int | None = None
        self._reserve()

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection that there is room for; the others are told so, and closed.

        Raises:
            BlockingIOError: there is none now, or enough for this turn.
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
        """Descriptors have run out: close a connection that waits; where none does, refuse the one that comes.

        The spare descriptor is given up for the moment of refusing it: else it would stay in the queue, and the loop
        would be told of it in every turn.
        """
        log.warning("a connection can't be accepted: %s", error.strerror)
        if self.connections.drop_oldest("descriptors have run out") or self._spare is None:
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
        """Close it, and the spare descriptor. Twice is fine."""
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
    """Return a socket for each address of a name, bound.

    Raises:
        ConfigurationError: the port is taken, or the name isn't known.
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
        raise ConfigurationError(f"can't listen on host={host!r}, port={port}: {error.strerror or error}") from error
    return made
