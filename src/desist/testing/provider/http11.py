"""Parse and encode HTTP/1.1 for the loopback provider: heads, chunks, server-sent events.

Pure functions, called by `desist.testing.provider.connection`, `desist.testing.provider.reply_player` and the APIs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

__all__ = ["END", "Head", "chunked", "named_event", "parse_head", "response_head"]

END = b"0\r\n\r\n"


class Head:
    """The head of a request: `method`, `path` and `headers` with names in lower case."""

    def __init__(self, method: str, path: str, headers: dict[str, str]) -> None:
        self.method, self.path, self.headers = method, path, headers


def parse_head(raw: bytes) -> Head:
    """Parse a request's head, without its empty last line. Raises ValueError if the head is invalid."""
    first, *lines = raw.decode("latin-1").split("\r\n")
    method, path, _version = first.split(" ")
    pairs = (line.partition(":") for line in lines)
    return Head(method, path, {name.strip().lower(): value.strip() for name, _, value in pairs})


def response_head(status: int, kind: str, length: int | None, extra: Mapping[str, str] | None = None) -> bytes:
    """Return the head of a response. If `length` is None, the body is sent in chunks."""
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Made Up"
    size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    lines = [f"HTTP/1.1 {status} {phrase}", f"content-type: {kind}", size]
    lines += [f"{name}: {value}" for name, value in (extra or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunked(data: bytes) -> bytes:
    """Return `data` as one HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def named_event(kind: str, fields: Mapping[str, Any]) -> bytes:
    """Return a server-sent event with its type in both the event name and the data."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()
