"""What the tests of odd streams share: events as odd servers write them, sent by a real server and read by a model."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
from dataclasses import dataclass
from typing import Any

from http_dialects import CHAT, KEY, MESSAGES, RESPONSES, Speech
from http_raw_server import Connection, Server
from http_requests import collect

from desist.models.base import ModelRequest
from desist.models.message import Message
from desist.models.response import ModelResponse, Usage

__all__ = ["CHAT", "KEY", "MESSAGES", "RESPONSES", "Read", "Speech", "chunk", "data", "delta", "piece", "read", "tools"]

DONE = b"data: [DONE]\n\n"
STREAM = "text/event-stream"
JSON = "application/json"


def data(value: Any) -> bytes:
    """Return an event: bytes as they are, anything else as JSON."""
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def chunk(**fields: Any) -> bytes:
    """Return a chunk of a chat completion."""
    return data({"object": "chat.completion.chunk", **fields})


def delta(fields: dict[str, Any] | None = None, reason: Any = None, **choice: Any) -> bytes:
    """Return a chunk with one choice."""
    return chunk(choices=[{"index": 0, "delta": fields or {}, "finish_reason": reason, **choice}])


def piece(index: Any = None, id: Any = None, name: Any = None, arguments: Any = None, **more: Any) -> dict[str, Any]:
    """Return a piece of a call, with what isn't None."""
    function = {k: v for k, v in (("name", name), ("arguments", arguments)) if v is not None}
    return {k: v for k, v in (("index", index), ("id", id)) if v is not None} | {"function": function} | more


def tools(*names: str) -> list[dict[str, Any]]:
    """Return definitions of tools without parameters."""
    return [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in names]


@dataclass
class Read:
    """What a model made of a response."""

    pieces: list[ModelResponse]

    @property
    def text(self) -> str:
        return "".join(one.content or "" for one in self.pieces)

    @property
    def thought(self) -> str:
        return "".join(one.reasoning_content or "" for one in self.pieces)

    @property
    def calls(self) -> list[tuple[str | None, str]]:
        return [(call.name, call.arguments) for one in self.pieces for call in one.tool_calls or ()]

    @property
    def reason(self) -> str | None:
        return next((one.finish_reason for one in self.pieces if one.finish_reason), None)

    @property
    def usage(self) -> Usage | None:
        return next((one.usage for one in self.pieces if one.usage), None)


class Wire:
    """A server that sends the bodies it is given, and an event loop with the models' connections to it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.kind = STREAM
        self._server = Server(self._answer)
        self._loop = asyncio.Runner()

    def read(self, speech: Speech, request: ModelRequest, retries: int) -> list[ModelResponse]:
        model = speech.at(self._server.url, max_retries=retries)
        return self._loop.run(collect(model, request))

    def close(self) -> None:
        self._loop.close()
        self._server.close()

    def _answer(self, connection: Connection) -> None:
        """Send each body in chunks of a few bytes and of a few hundred, in turns, so that the cuts fall anywhere."""
        while connection.request() is not None:
            body = self.bodies.pop(0) if len(self.bodies) > 1 else self.bodies[0]
            head = f"HTTP/1.1 200 OK\r\ncontent-type: {self.kind}\r\ntransfer-encoding: chunked\r\n\r\n"
            connection.send(head.encode())
            for size in itertools.cycle((7, 400)):
                if not body:
                    break
                connection.chunk(body[:size])
                body = body[size:]
            connection.end()


@functools.cache
def wire() -> Wire:
    """Return the server of all tests of this folder. The fixture `_wire_closed` closes it."""
    return Wire()


def read(speech: Speech, *bodies: bytes, kind: str = STREAM, names: tuple[str, ...] = (), retries: int = 0) -> Read:
    """Send the bodies, each as the response to a request, and return what the model yields."""
    shared = wire()
    shared.bodies, shared.kind = list(bodies), kind
    request = ModelRequest(messages=[Message("user", "hello")], tools=tools(*names))
    return Read(shared.read(speech, request, retries))
