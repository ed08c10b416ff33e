"""Loopback servers that hang: they take a connection, read what is asked, and never answer it whole."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path

PATIENCE = 60.0  #: seconds after which something hangs, on a machine with twenty times its load too


class HangingServer:
    """Listens on 127.0.0.1. What is asked of `/body` gets headers and half a body; everything else gets nothing.

    `arrived` counts requests that were read, `ended` connections that the other side has closed.
    """

    def __init__(self, tls: tuple[Path, Path] | None = None) -> None:
        self.arrived, self.ended = threading.Semaphore(0), threading.Semaphore(0)
        self._context: ssl.SSLContext | None = None
        if tls is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*tls)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self._thread = threading.Thread(target=self._accept, name="server", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it is, without a path."""
        return f"http{'s' if self._context else ''}://{self.address[0]}:{self.address[1]}"

    def wait_arrived(self) -> None:
        """Wait until a request was read."""
        assert self.arrived.acquire(timeout=PATIENCE), "nothing was asked"

    def wait_ended(self) -> None:
        """Wait until the other side has closed a connection."""
        assert self.ended.acquire(timeout=PATIENCE), "the connection is still open"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), name="server-connection", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # TLS too: whoever is interrupted doesn't say goodbye
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            self._hang(connection)
        connection.close()
        self.ended.release()

    def _hang(self, connection: socket.socket) -> None:
        asked = connection.recv(65536)
        if asked.startswith(b"bye"):  # what a cleanup says
            connection.sendall(b"ok")
            return
        if b" /body " in asked:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        self.arrived.release()
        while connection.recv(65536):
            pass

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE)
