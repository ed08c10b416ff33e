"""A raw HTTP server on threads, for tests that need a say in every byte: each connection runs the test's own script."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

WAIT = 100.0  # seconds: far more than any step needs, so that only a fault reaches it

SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Connection:
    """One connection, as the script sees it."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number
        self._buffer = b""

    def request(self) -> dict[str, Any] | None:
        """Return the next request's {"line", "headers", "body"}, or None when the client has left."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        line, *fields = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)}
        length = int(headers.get("content-length", 0))
        while len(self._buffer) < length:
            if not self._more():
                return None
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return {"line": line, "headers": headers, "body": json.loads(body) if body else None}

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def chunk(self, data: bytes) -> None:
        """Send one chunk of a chunked body."""
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        self.send(b"0\r\n\r\n")

    def whole(self, status: int, body: bytes, *, kind: str = "application/json", **headers: str) -> None:
        """Send a whole response; `_` in a header's name stands for `-`."""
        lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", f"content-length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def stream(self, *events: bytes) -> None:
        """Send a whole streamed answer, each event in a chunk of its own."""
        self.send(SSE_HEAD)
        for event in filter(None, events):
            self.chunk(event)
        self.end()

    def gone(self) -> bool:
        """Wait until the client has closed; False if it sends something instead, or nothing happens for long."""
        try:
            return self.sock.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    def _more(self) -> bool:
        try:
            received = self.sock.recv(65536)
        except OSError:
            return False
        self._buffer += received
        return bool(received)


Script = Callable[[Connection], None]


class Server:
    """Listens on 127.0.0.1 and runs `script(connection)` in a thread for each connection."""

    def __init__(self, script: Script, context: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.connections = 0
        self.errors: list[BaseException] = []
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        scheme = "https" if context else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}/v1"
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(sock)
            thread = threading.Thread(target=self._serve, args=(sock, self.connections), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        raw = sock
        try:
            sock.settimeout(WAIT)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
            self.script(Connection(sock, number))
        except (OSError, ssl.SSLError):
            pass  # the client left
        except BaseException as error:
            self.errors.append(error)
        finally:
            sock.close()
            self._open.discard(raw)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in [self._accepting, *self._threads]:
            thread.join(WAIT)
        assert not self.errors, self.errors


@contextmanager
def serving(script: Script, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Run a server for the block."""
    server = Server(script, context)
    try:
        yield server
    finally:
        server.close()


def answering(*events: bytes) -> Script:
    """Return a script that gives the same streamed answer to every request."""

    def script(connection: Connection) -> None:
        while connection.request() is not None:
            connection.stream(*events)

    return script


def event(delta: dict[str, Any] | None = None, *, reason: str | None = None, **more: Any) -> bytes:
    """Return one chunk of an answer as an event."""
    chunk = {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta or {}, "finish_reason": reason}],
    }
    return b"data: " + json.dumps(chunk | more).encode() + b"\n\n"


def text(content: str) -> bytes:
    """Return an event with a piece of text."""
    return event({"content": content})


STOP = event(reason="stop")
DONE = b"data: [DONE]\n\n"
