"""D4: streamed tokens for each second of CPU time, through one agent, beside the SDK's own rate."""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Awaitable, Callable

from bench.clock import cpu_of, cpu_of_async
from bench.table import Figure, Table
from desist.agent import Agent
from desist.models.anthropic import Claude
from desist.models.http.model import HttpModel
from desist.models.openai import OpenAIChat, OpenAIResponses
from desist.run.agent import RunContentEvent
from desist.testing import LoopbackProvider, Reply
from desist.workflow import Step, Workflow

__all__ = ["measure"]

TARGET = 5.0  #: times the SDK's rate

#: A coroutine function that reads the flood once and counts, and one that closes what it used.
Prepared = tuple[Callable[[], Awaitable[int]], Callable[[], Awaitable[None]] | None]
_ASK = {"model": "bench", "messages": [{"role": "user", "content": "go"}], "stream": True}


def _agent(url: str, kind: type[HttpModel] = OpenAIChat) -> Agent:
    return Agent(kind(id="bench", base_url=url, api_key="bench"), name="bench")


def _rate(total: int, seconds: list[float]) -> float:
    return total / statistics.median(seconds)


def _checked(count: int, total: int) -> None:
    if count != total:
        raise RuntimeError(f"{count} tokens came, not {total}: the figure would be wrong")


def _sync(url: str, total: int, repeats: int, *, workflow: bool = False) -> float:
    target: Agent | Workflow = _agent(url)
    if workflow:
        target = Workflow("bench", steps=[Step("one", agent=_agent(url))])

    def work() -> None:
        events = target.run("go", stream=True)
        _checked(sum(isinstance(event, RunContentEvent) for event in events), total)

    return _rate(total, [cpu_of(work) for _ in range(repeats + 1)][1:])


def _unread(url: str, total: int, repeats: int) -> float:
    agent = _agent(url)
    return _rate(total, [cpu_of(lambda: agent.run("go")) for _ in range(repeats + 1)][1:])


def _on_loop(total: int, repeats: int, prepare: Callable[[], Prepared]) -> float:
    """Return the rate of a coroutine function that returns how many tokens it saw."""

    async def main() -> float:
        work, close = prepare()

        async def once() -> None:
            _checked(await work(), total)

        seconds = [await cpu_of_async(once) for _ in range(repeats + 1)][1:]
        if close is not None:
            await close()
        return _rate(total, seconds)

    return asyncio.run(main())


def _async(url: str, kind: type[HttpModel] = OpenAIChat) -> Prepared:
    agent = _agent(url, kind)

    async def work() -> int:
        return sum([isinstance(event, RunContentEvent) async for event in agent.arun("go", stream=True)])

    return work, None


def _sdk(url: str) -> Prepared:
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="bench", max_retries=0)

    async def work() -> int:
        count = 0
        async with await client.chat.completions.create(**_ASK) as stream:  # type: ignore[call-overload]
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    count += 1
        return count

    return work, client.close


def _lines(url: str) -> Prepared:
    import httpx2

    client = httpx2.AsyncClient()

    async def work() -> int:
        count = 0
        async with client.stream("POST", f"{url}/chat/completions", json=_ASK) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    choices = json.loads(line[6:])["choices"]
                    count += bool(choices and choices[0]["delta"].get("content"))
        return count

    return work, client.aclose


def measure(*, quick: bool) -> list[Table]:
    """Read the same flood from another process in several ways."""
    total, repeats = (10_000, 2) if quick else (30_000, 5)
    with LoopbackProvider(Reply(tokens=total, flood=True), process=True) as provider:
        url = provider.base_url
        sdk = _on_loop(total, repeats, lambda: _sdk(url))
        lines = _on_loop(total, repeats, lambda: _lines(url))
        rates = {
            "agent, async reader": _on_loop(total, repeats, lambda: _async(url)),
            "agent, async reader, OpenAIResponses": _on_loop(total, repeats, lambda: _async(url, OpenAIResponses)),
            "agent, async reader, Claude": _on_loop(total, repeats, lambda: _async(url, Claude)),
            "agent, sync reader": _sync(url, total, repeats),
            "agent in a workflow, sync reader": _sync(url, total, repeats, workflow=True),
            "agent, nobody reads (stream=False)": _unread(url, total, repeats),
        }
    table = Table(f"D4: streamed tokens per CPU second, {total:,} tokens from another process")
    for name, rate in rates.items():
        table.add(Figure(name, rate / sdk, "x the SDK", TARGET, "more", f"{rate:,.0f} tokens/s"))
    table.add(
        Figure("reference: AsyncOpenAI's own stream", sdk, "tokens/s"),
        Figure("reference: httpx2 lines and json.loads", lines, "tokens/s", note=f"{lines / sdk:.1f} x the SDK"),
    )
    return [table.close()]
