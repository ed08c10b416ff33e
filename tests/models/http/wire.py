"""What the tests of odd streams share: events as odd servers write them, sent by a real server and read by a model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from http_dialects import CHAT, KEY, MESSAGES, RESPONSES, Speech
from http_raw_server import Connection, serving
from http_requests import ask

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


def read(speech: Speech, *bodies: bytes, kind: str = STREAM, names: tuple[str, ...] = (), retries: int = 0) -> Read:
    """Send the bodies, each as the response to a request, and return what the model yields.

    The body is sent in chunks of a few bytes and of a few hundred, in turns, so that the cuts fall anywhere.
    """
    left = list(bodies)

    def script(connection: Connection) -> None:
        while connection.request() is not None:
            body = left.pop(0) if len(left) > 1 else left[0]
            head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
            connection.send(head.encode())
            sizes = (7, 400)
            for number in range(len(body)):
                cut, body = body[: sizes[number % 2]], body[sizes[number % 2] :]
                if not cut:
                    break
                connection.chunk(cut)
            connection.end()

    request = ModelRequest(messages=[Message("user", "hello")], tools=tools(*names))
    with serving(script) as server:
        return Read(ask(speech.at(server.url, max_retries=retries), request))
