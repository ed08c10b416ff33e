"""The moments at which a call can be cancelled: a server script for each, and a gate that tells when it is there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from http_dialects import CHAT, Speech
from http_raw_server import SSE_HEAD, Connection
from http_requests import collect, until

from desist.cancel.token import CancelToken, use_token


class Gate:
    """Two events: the server reached the moment, and it saw the client leave."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.left = threading.Event()
        self.requests = 0

    def hang(self, connection: Connection) -> None:
        self.reached.set()
        if connection.gone():
            self.left.set()


def at_headers(gate: Gate, speech: Speech = CHAT) -> Callable[[Connection], None]:
    def script(connection: Connection) -> None:
        gate.requests += bool(connection.request())
        gate.hang(connection)

    return script


def at_first_token(gate: Gate, speech: Speech = CHAT) -> Callable[[Connection], None]:
    def script(connection: Connection) -> None:
        gate.requests += bool(connection.request())
        connection.send(SSE_HEAD)
        gate.hang(connection)

    return script


def when_stalled(gate: Gate, speech: Speech = CHAT) -> Callable[[Connection], None]:
    def script(connection: Connection) -> None:
        gate.requests += bool(connection.request())
        connection.send(SSE_HEAD)
        connection.chunk(speech.text("some"))
        gate.hang(connection)

    return script


def mid_stream(gate: Gate, speech: Speech = CHAT) -> Callable[[Connection], None]:
    def script(connection: Connection) -> None:
        gate.requests += bool(connection.request())
        connection.send(SSE_HEAD)
        try:
            while True:
                connection.chunk(speech.text("word "))
                gate.reached.set()
        except OSError:
            gate.left.set()

    return script


def in_an_error_body(gate: Gate, speech: Speech = CHAT) -> Callable[[Connection], None]:
    def script(connection: Connection) -> None:
        gate.requests += bool(connection.request())
        connection.send(b"HTTP/1.1 500 X\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{")
        gate.hang(connection)

    return script


def in_a_body_without_length(gate: Gate, speech: Speech = CHAT) -> Callable[[Connection], None]:
    """Here the end of the connection is the end of the answer: a shutdown must not look like one."""

    def script(connection: Connection) -> None:
        gate.requests += bool(connection.request())
        connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        connection.send(speech.text("some") + speech.almost)
        gate.hang(connection)

    return script


MOMENTS = [at_headers, at_first_token, when_stalled, mid_stream, in_an_error_body, in_a_body_without_length]


async def run_until_reached(model: Any, gate: Gate, token: CancelToken) -> asyncio.Task[Any]:
    """Start a call, as a run does, and return once the server is at the moment."""

    async def run() -> Any:
        with use_token(token):
            return await collect(model)

    task = asyncio.create_task(run())
    await until(gate.reached.is_set, "the server")
    return task
