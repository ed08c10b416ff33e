"""A wire to a server that can be cut at the worst moment: a proxy on loopback that knows when a transaction ends."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Literal
from urllib.parse import urlsplit

__all__ = ["Wire"]

#: The message that ends a transaction, as it goes over the wire.
_COMMIT = b"COMMIT\x00"


class Wire:
    """Passes bytes on, until told to cut the connection that says COMMIT next.

    "before": the server never hears of it. "after": the server does, and its answer is lost.
    """

    def __init__(self, url: str) -> None:
        at = urlsplit(url)
        assert at.hostname and at.port
        self._server = (at.hostname, at.port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = url.replace(f"{at.hostname}:{at.port}", f"127.0.0.1:{self._listening.getsockname()[1]}")
        self._cut: Literal["before", "after"] | None = None
        self.was_cut = threading.Event()
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut_next_commit(self, when: Literal["before", "after"]) -> None:
        """Cut the next connection that ends a transaction."""
        self.was_cut.clear()
        self._cut = when

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            self._open += [client, server]
            silent = threading.Event()
            for args in ((client, server, silent, True), (server, client, silent, False)):
                self._threads.append(threading.Thread(target=self._pass, args=args, daemon=True))
                self._threads[-1].start()

    def _pass(self, source: socket.socket, sink: socket.socket, silent: threading.Event, asking: bool) -> None:
        try:
            while data := source.recv(65536):
                cut = self._cut if asking and _COMMIT in data else None
                if cut is not None:
                    self._cut = None
                    silent.set()
                if cut != "before" and (asking or not silent.is_set()):
                    sink.sendall(data)
                elif not asking:  # the answer is lost, and then the connection
                    break
                if cut == "before":
                    break
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        if silent.is_set():
            self.was_cut.set()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for end in self._open:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(20)
        for end in self._open:
            end.close()
