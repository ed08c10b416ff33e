"""A2: what the provider still makes, and bills, after a cancel in mid-stream."""

from __future__ import annotations

import asyncio
import time

from bench.cancel_latency import stops
from bench.scenario import ModelCall
from bench.table import Figure, Table
from desist.testing import LoopbackProvider, Reply

__all__ = ["measure"]

TOKENS = 500
INTERVALS = (0.005, 0.001)


async def _bare_loop(url: str) -> float:
    """Leave the SDK's bare stream by `break`, as programs do that look at a flag between chunks; return when."""
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="bench", max_retries=0)
    stream = await client.chat.completions.create(
        model="bench", messages=[{"role": "user", "content": "go"}], stream=True
    )
    count = 0
    async for _ in stream:
        count += 1
        if count > 20:
            break
    left_at = time.monotonic()
    await asyncio.sleep(1.0)
    await stream.close()
    await client.close()
    return left_at


def _reference() -> int:
    with LoopbackProvider(Reply(tokens=TOKENS, token_interval=0.001), process=True) as provider:
        left_at = asyncio.run(_bare_loop(provider.base_url))
        exchange = provider.wait_request(1)
        exchange.wait_over()
        return exchange.tokens_after(left_at)


def measure(*, quick: bool) -> list[Table]:
    """Cancel answers of 500 tokens after the 20th."""
    repeats = 10 if quick else 100
    table = Table(f"A2: tokens that the provider makes after a cancel, of {TOKENS}, cancelled after 20")
    for interval in INTERVALS:
        reply = Reply(tokens=TOKENS, token_interval=interval)
        allowed = 2 if interval == INTERVALS[0] else None
        with ModelCall("billing", reply, tokens=20, allowed=allowed) as scene:
            wasted = stops(scene, "run", repeats).wasted
        name = f"desist, a token each {interval * 1e3:.0f} ms: the worst of {repeats}"
        table.add(Figure(name, max(wasted), "tokens", allowed, note=f"{sum(wasted) / len(wasted):.2f} on average"))
    name = "reference: `break` out of the SDK's stream, 1 ms"
    table.add(Figure(name, _reference(), "tokens", note="the connection stays open until somebody closes the stream"))
    return [table.close()]
