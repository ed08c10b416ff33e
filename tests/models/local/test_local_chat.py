"""`LocalChat` with the real model: it answers, stops, breaks off and comes back."""

import asyncio
import json
import logging
import os
import signal
from typing import Any

import pytest

from desist.exceptions import ModelError, UnsupportedError
from desist.models.base import ModelRequest
from desist.models.local import LocalChat
from desist.models.message import Message

pytestmark = pytest.mark.local

STORY = "Tell a very long story about a student and a dragon."


def _ask(text: str, **more: Any) -> ModelRequest:
    return ModelRequest(messages=[Message("user", text)], **more)


async def _answer(chat: LocalChat, request: ModelRequest) -> str:
    return "".join([piece.content or "" async for piece in chat.stream(request)])


async def _read(chat: LocalChat, first: asyncio.Event) -> None:
    seen = 0
    async for piece in chat.stream(_ask(STORY)):
        seen += bool(piece.content)
        if seen == 10:
            first.set()


def test_it_answers() -> None:
    """A short question gets some text."""
    chat = LocalChat(max_tokens=20, seed=1)
    chat.check()
    assert asyncio.run(_answer(chat, _ask("Say hello."))).strip()


def test_a_cancel_stops_the_computing() -> None:
    """A task cancelled in mid-answer leaves a model that computes nothing within seconds, for little CPU time."""

    async def scene() -> tuple[float, float]:
        chat, first = LocalChat(), asyncio.Event()
        task = asyncio.create_task(_read(chat, first))
        await first.wait()
        before = chat.server.cpu_seconds()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        idle = await chat.server.wait_idle(timeout=20)
        return idle, chat.server.cpu_seconds() - before

    idle, burned = asyncio.run(scene())
    assert idle < 10
    assert burned < 1.0


def test_a_killed_child_is_said_and_replaced() -> None:
    """kill -9 of the child in mid-answer is a retryable ModelError that says so; the next call has a new child."""

    async def scene() -> None:
        chat, first = LocalChat(max_tokens=1000), asyncio.Event()
        task = asyncio.create_task(_read(chat, first))
        await first.wait()
        pid = chat.server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ModelError, match="killed by SIGKILL") as caught:
            await task
        assert caught.value.retryable
        chat.max_tokens = 5
        assert await _answer(chat, _ask("Say hello."))
        assert chat.server.pid not in (None, pid)

    asyncio.run(scene())


def test_two_at_a_time_and_one_cancelled() -> None:
    """Cancelling one of two answers leaves the other to finish."""

    async def scene() -> str:
        first = asyncio.Event()
        stopped = asyncio.create_task(_read(LocalChat(), first))
        other = asyncio.create_task(_answer(LocalChat(max_tokens=60), _ask(STORY)))
        await first.wait()
        stopped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopped
        return await other

    assert len(asyncio.run(scene()).split()) > 20


def test_a_prompt_that_is_too_long_is_said() -> None:
    """A prompt beyond the context is a ModelError that names the limit and what to do."""
    with pytest.raises(ModelError, match=r"share 4096 tokens .* raise n_ctx") as caught:
        asyncio.run(_answer(LocalChat(), _ask("word " * 5000)))
    assert not caught.value.retryable


def test_structured_output_is_enforced() -> None:
    """An answer by JSON schema has the schema's shape."""
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    }
    request = _ask("The capital of France?", response_format=schema)
    assert set(json.loads(asyncio.run(_answer(LocalChat(max_tokens=60, temperature=0), request)))) == {"city"}


def test_tools_are_not_sent_and_that_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Offered tools are left out with one warning; a demanded one is refused."""
    tool = {"type": "function", "function": {"name": "look_up", "description": "", "parameters": {"type": "object"}}}

    async def scene() -> None:
        chat = LocalChat(max_tokens=5)
        with caplog.at_level(logging.WARNING, "desist.models.local"):
            assert await _answer(chat, _ask("Hello", tools=[tool]))
            assert await _answer(chat, _ask("Hello", tools=[tool], tool_choice="auto"))
        assert caplog.text.count("not sent") == 1
        with pytest.raises(UnsupportedError, match="required"):
            await _answer(chat, _ask("Hello", tools=[tool], tool_choice="required"))

    asyncio.run(scene())
