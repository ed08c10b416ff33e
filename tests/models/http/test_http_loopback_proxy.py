"""A model on this machine is never asked through a proxy."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from desist.models.base import ModelRequest
from desist.models.message import Message
from desist.models.openai import OpenAIChat
from desist.testing import LoopbackProvider, Reply


def test_a_loopback_provider_is_reached_without_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """With HTTP_PROXY set to a dead address and no NO_PROXY, a provider on 127.0.0.1 answers all the same."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    async def ask(url: str) -> str:
        model = OpenAIChat("m", base_url=url, api_key="k", max_retries=0)
        async with aclosing(model.stream(ModelRequest(messages=[Message("user", "hi")]))) as pieces:
            return "".join([piece.content or "" async for piece in pieces])

    with LoopbackProvider(Reply(text="here")) as provider:
        assert asyncio.run(ask(provider.base_url)) == "here"
