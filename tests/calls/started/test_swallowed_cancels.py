"""A cancellation that a library swallows is delivered again, and so are those of the tasks that it has started."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import openai
import pytest
from hanging_server import PATIENCE
from started_scenario import Run, Way, wait_until

from desist.testing import LoopbackProvider, Reply

TIMES = 20
#: Seconds between two tokens: a cancel almost always meets one that has come.
PACE = 0.0002
faces: Any = pytest.mark.parametrize("way", ["run", "arun"])


class Stream:
    """Tokens from a producer, and how many were taken."""

    def __init__(self) -> None:
        self.taken = 0

    async def tokens(self) -> AsyncIterator[int]:
        number = 0
        while True:
            await asyncio.sleep(PACE)
            number += 1
            yield number


async def with_a_timeout(stream: Stream) -> None:
    """Read as a library does that limits the time between two tokens."""
    tokens = stream.tokens()
    while True:
        await asyncio.wait_for(anext(tokens), 60)  # noqa: TID251  a library's: 3.11 loses a cancel that meets a result
        stream.taken += 1


async def that_swallows_all(stream: Stream) -> None:
    """Read on after every first cancellation, as a loop does that takes it for a failure of one token."""
    tries = 0
    while tries < 3:
        try:
            await with_a_timeout(stream)
        except asyncio.CancelledError:
            tries += 1


async def in_tasks(stream: Stream) -> None:
    """Read in tasks of nodes, which nobody cancels when their reader is cancelled."""
    nodes = [asyncio.create_task(with_a_timeout(stream)) for _ in range(3)]
    await asyncio.wait(nodes)


@faces
@pytest.mark.parametrize("read", [with_a_timeout, that_swallows_all, in_tasks], ids=lambda f: f.__name__)
def test_every_cancel_stops_it(read: Callable[[Stream], Awaitable[None]], way: Way) -> None:
    """20 of 20 are stopped, long before the grace is over, and no token is taken afterwards."""
    for _ in range(TIMES):
        stream = Stream()

        async def work(stream: Stream = stream) -> None:
            await read(stream)

        run = Run(work, way=way, grace=100 * PATIENCE).start()
        wait_until(lambda stream=stream: stream.taken >= 3, "the stream hasn't begun")  # type: ignore[misc]
        receipt = run.stop()
        assert receipt.abandoned == []
        taken = stream.taken
        run.wait_over()
        assert stream.taken == taken


@faces
def test_nodes_of_a_library_stream_no_more(way: Way) -> None:
    """Tasks that read from a provider through `wait_for` close their connections; the provider generates no more."""

    async def node(client: openai.AsyncOpenAI) -> None:
        messages: Any = [{"role": "user", "content": "go"}]
        async with await client.chat.completions.create(model="m", messages=messages, stream=True) as stream:
            tokens = aiter(stream)
            while True:
                await asyncio.wait_for(anext(tokens), 60)  # noqa: TID251

    for _ in range(5):
        with LoopbackProvider(Reply(tokens=100_000, token_interval=PACE)) as provider:

            async def work(url: str = provider.base_url) -> None:
                client = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0)
                await asyncio.wait([asyncio.create_task(node(client)) for _ in range(3)])

            run = Run(work, way=way, grace=100 * PATIENCE).start()
            provider.wait_request(3, PATIENCE)
            for exchange in provider.exchanges:
                exchange.wait_sent(5, PATIENCE)
            assert run.stop().abandoned == []
            run.wait_over()
            for exchange in provider.exchanges:
                exchange.wait_closed(PATIENCE)
                exchange.wait_over(PATIENCE)
                assert exchange.closed_by == "client" and not exchange.finished
            assert len(provider.exchanges) == 3


def check_closed(exchange: Any) -> None:
    """The connection is closed, by the next collection at the latest: streams of this library refer to themselves."""
    wait_until(lambda: gc.collect() >= 0 and exchange.closed_by is not None, "the connection is still open")
    assert exchange.closed_by == "client" and not exchange.finished


@faces
@pytest.mark.parametrize("swallow", [0, 3])
def test_a_stream_that_nobody_closes(swallow: int, way: Way) -> None:
    """A stream that is read without `async with`, by code that swallows cancellations: its connection is closed."""
    with LoopbackProvider(Reply(tokens=100_000, token_interval=PACE)) as provider:

        async def work() -> None:
            client = openai.AsyncOpenAI(api_key="none", base_url=provider.base_url, max_retries=0)
            messages: Any = [{"role": "user", "content": "go"}]
            stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
            swallowed, tokens = 0, aiter(stream)
            while True:
                try:
                    await asyncio.wait_for(anext(tokens), 60)  # noqa: TID251
                except asyncio.CancelledError:
                    swallowed += 1
                    if swallowed > swallow:
                        raise

        run = Run(work, way=way, grace=100 * PATIENCE).start()
        exchange = provider.wait_request(1, PATIENCE)
        exchange.wait_sent(5, PATIENCE)
        assert run.stop().abandoned == []
        check_closed(exchange)
        run.wait_over()


@faces
@pytest.mark.parametrize("end", ["raise", "return"])
def test_a_stream_that_is_left_between_two_tokens(end: str, way: Way) -> None:
    """The same where the code isn't reading when it is cancelled, and doesn't close what it has read from: nothing of
    desist keeps the stream, so that the garbage collector closes its connection (the stream refers to itself)."""
    with LoopbackProvider(Reply(tokens=100_000, token_interval=PACE)) as provider:
        reading = threading.Event()

        async def work() -> None:
            client = openai.AsyncOpenAI(api_key="none", base_url=provider.base_url, max_retries=0)
            messages: Any = [{"role": "user", "content": "go"}]
            stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
            try:
                async for _ in stream:
                    reading.set()
                    await asyncio.sleep(300)
            except asyncio.CancelledError:
                if end == "raise":
                    raise

        run = Run(work, way=way, grace=100 * PATIENCE).start()
        exchange = provider.wait_request(1, PATIENCE)
        assert reading.wait(PATIENCE)
        assert run.stop().abandoned == []
        check_closed(exchange)
        run.wait_over()
