"""OpenAIChat against the loopback provider that users test with: what is billed after a cancel, what is left over."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing

import pytest
from http_dialects import Speech
from http_requests import ask, asking, collect, said, until

from desist.cancel.token import CancelToken, use_token
from desist.exceptions import ModelError, RunCancelled
from desist.testing import HANG, Call, LoopbackProvider, Reply, assert_no_leaks


def test_an_answer_with_text_and_calls(speech: Speech) -> None:
    """What the provider is told to say arrives: text, calls, usage, finish reason."""
    calls = [Call("add", {"a": 1, "b": 2}), Call("sub", {})]
    with LoopbackProvider(Reply(text="Let me see.", tool_calls=calls)) as provider:
        pieces = ask(speech.at(provider.base_url))
    assert said(pieces) == "Let me see."
    names = [d.name for p in pieces for d in p.tool_calls or () if d.name]
    first = min(d.index for p in pieces for d in p.tool_calls or ())
    arguments = "".join(d.arguments for p in pieces for d in p.tool_calls or () if d.index == first)
    assert (names, arguments) == (["add", "sub"], '{"a": 1, "b": 2}')
    assert [p.finish_reason for p in pieces if p.finish_reason] == ["tool_calls"]
    assert pieces[-1].usage is not None and pieces[-1].usage.input_tokens == 1


def test_a_cancelled_stream_is_not_generated_any_further(speech: Speech) -> None:
    """Cancelled after a few tokens of a stalled answer: the provider saves the rest, and nothing leaks."""

    async def main(provider: LoopbackProvider) -> None:
        token = CancelToken()
        with use_token(token), pytest.raises(RunCancelled):
            async with aclosing(speech.at(provider.base_url, max_retries=2).stream(asking())) as pieces:
                async for piece in pieces:
                    if piece.content == "t4 ":
                        threading.Thread(target=token.cancel).start()
        exchange = provider.exchanges[0]
        await until(lambda: exchange.over, "the provider's end")
        assert (exchange.closed_by, exchange.tokens_sent) == ("client", 5)

    with assert_no_leaks(), LoopbackProvider(Reply(tokens=100, stall_after=5)) as provider:
        asyncio.run(main(provider))
        assert len(provider.exchanges) == 1


def test_a_hundred_streams_cancelled_together(speech: Speech) -> None:
    """A hundred answers that hang before their first token: every connection closes."""

    async def main(provider: LoopbackProvider) -> None:
        tasks = [asyncio.create_task(collect(speech.at(provider.base_url))) for _ in range(100)]
        await until(lambda: len(provider.exchanges) == 100, "all requests")
        for task in tasks:
            task.cancel()
        done, _ = await asyncio.wait(tasks, timeout=20)
        assert len(done) == 100 and all(task.cancelled() for task in done)
        await until(lambda: provider.open_connections == 0, "every close")

    with LoopbackProvider(Reply(before_first_token=HANG)) as provider:
        asyncio.run(main(provider))


def test_a_dropped_connection_is_tried_again(speech: Speech) -> None:
    """A provider that hangs up without an answer is asked once more; one that hangs up in mid-answer isn't."""
    with LoopbackProvider(Reply(text="fine")) as provider:
        provider.enqueue(Reply(drop_before_headers=True))
        assert said(ask(speech.at(provider.base_url, max_retries=1))) == "fine"
        provider.enqueue(Reply(tokens=5, drop_after=2))
        with pytest.raises(ModelError):
            ask(speech.at(provider.base_url, max_retries=1))
        assert len(provider.exchanges) == 3
