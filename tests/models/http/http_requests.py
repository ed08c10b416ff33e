"""Short ways to talk to a model in a test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from desist.models.base import ModelRequest
from desist.models.http.model import HttpModel
from desist.models.message import Message
from desist.models.openai import OpenAIChat
from desist.models.response import ModelResponse


def chat(url: str, **given: Any) -> OpenAIChat:
    """Return a model at `url` that doesn't retry, unless told to."""
    return OpenAIChat("test-model", **{"base_url": url, "api_key": "sk-test-0123456789", "max_retries": 0} | given)


def asking(words: str = "hello", **given: Any) -> ModelRequest:
    return ModelRequest(messages=[Message("user", words)], **given)


async def collect(model: HttpModel, request: ModelRequest | None = None) -> list[ModelResponse]:
    async with aclosing(model.stream(request or asking())) as pieces:
        return [piece async for piece in pieces]


def ask(model: HttpModel, request: ModelRequest | None = None) -> list[ModelResponse]:
    """Return all pieces of one answer, in a loop of its own."""
    return asyncio.run(collect(model, request))


def said(pieces: list[ModelResponse]) -> str:
    return "".join(piece.content or "" for piece in pieces)


def connecting(port: int) -> int:
    """Count this machine's sockets that wait for a connection to `port`; Linux only."""
    fields = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(f[2].endswith(f":{port:04X}") and f[3] == "02" for f in fields)


async def until(condition: Callable[[], object], what: str = "a condition") -> None:
    """Let the loop turn until `condition()` holds; fail after 20 s."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"waited too long for {what}"
        await asyncio.sleep(0.001)
