"""D5: the CPU time of 200 runs at once. A18: a hundred streaming runs, all cancelled at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bench.clock import cpu_of
from bench.statistics import spread
from bench.table import Figure, Table
from desist.agent import Agent
from desist.cancel.receipt import CancelReceipt
from desist.models.base import Model, ModelRequest
from desist.models.openai import OpenAIChat
from desist.models.response import ModelResponse
from desist.testing import LoopbackProvider, Reply
from desist.workflow import Loop, Parallel, Step, StepInput, Workflow

__all__ = ["measure"]

RUNS = 200
STREAMS = 100
PIECES = 20


class SleepyModel(Model):
    """Takes a second to answer, in `pieces` pieces."""

    def __init__(self, pieces: int) -> None:
        self.id, self.pieces = "sleepy", pieces

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelResponse]:
        """Sleep and speak."""
        for _ in range(self.pieces):
            await asyncio.sleep(1 / self.pieces)
            yield ModelResponse(content="word ")


def _workflow(pieces: int) -> Workflow:
    return Workflow("bench", steps=[Step("one", agent=Agent(SleepyModel(pieces), name="bench"))])


def _branching() -> Workflow:
    """Return one of four branches, each a loop of four rounds of a quarter of a second."""

    async def nap(_: StepInput) -> str:
        await asyncio.sleep(0.25)
        return "done"

    loops = [Loop([Step("nap", executor=nap)], f"loop {n}", max_iterations=4) for n in range(4)]
    return Workflow("bench", steps=[Parallel("four", *loops)])


async def _read(workflow: Workflow) -> None:
    async for _ in workflow.arun("go", stream=True):
        pass


async def _plain(pieces: int) -> None:
    async for _ in SleepyModel(pieces).stream(ModelRequest(messages=[])):
        pass


async def _gathered(work: Callable[[], object]) -> None:
    await asyncio.gather(*[work() for _ in range(RUNS)])  # type: ignore[call-overload]


def _in_threads(workflow: Workflow) -> None:
    def read(_: int) -> None:
        for _event in workflow.run("go", stream=True):
            pass

    with ThreadPoolExecutor(RUNS) as pool:
        list(pool.map(read, range(RUNS)))


def _two_hundred() -> Table:
    table = Table(f"D5: CPU time of {RUNS} concurrent runs of 1 s, a workflow of one agent or of loops, streamed")
    for pieces, what in ((1, "silent"), (PIECES, f"{PIECES} tokens each")):
        workflow = _workflow(pieces)
        plain = cpu_of(partial(asyncio.run, _gathered(partial(_plain, pieces))))
        on_loop = cpu_of(partial(asyncio.run, _gathered(partial(_read, workflow))))
        threads = cpu_of(partial(_in_threads, workflow))
        table.add(
            Figure(f"arun() on one loop, {what}", on_loop, "s", 1.0),
            Figure(f"run() in {RUNS} threads, {what}", threads, "s", 1.0),
            Figure(f"reference: plain asyncio tasks, {what}", plain, "s"),
        )
    branching = _branching()
    words = "a Parallel of 4 Loops of 4 rounds each, 16 steps"
    table.add(
        Figure(
            f"arun() on one loop, {words}", cpu_of(partial(asyncio.run, _gathered(partial(_read, branching)))), "s", 1.0
        ),
        Figure(f"run() in {RUNS} threads, {words}", cpu_of(partial(_in_threads, branching)), "s", 1.0),
    )
    return table.close()


def _stampede(provider: LoopbackProvider, workflow: Workflow, number: int) -> tuple[list[float], float, float, int]:
    """Cancel a hundred runs.

    Returns:
        Times from cancel to terminal event, of all cancel() calls, and to the last connection's end, in ms; and how
        many runs were declared abandoned though nothing in them is deaf.
    """
    ids = [f"{number}-{n}" for n in range(STREAMS)]
    asked: dict[str, float] = {}
    told: dict[str, float] = {}

    def read(run_id: str) -> None:
        for event in workflow.run("go", stream=True, run_id=run_id):
            if event.is_terminal:
                told[run_id] = time.monotonic()

    first = len(provider.exchanges)
    readers = [threading.Thread(target=read, args=(run_id,)) for run_id in ids]
    for reader in readers:
        reader.start()
    provider.wait_request(first + STREAMS)
    exchanges = provider.exchanges[first:]
    for exchange in exchanges:
        exchange.wait_sent(3)
    began = time.monotonic()
    receipts = []
    for run_id in ids:
        asked[run_id] = time.monotonic()
        receipts.append(workflow.cancel(run_id))
    answered = time.monotonic()
    for reader in readers:
        reader.join()
    provider.wait_open_connections(0)
    closed = max(exchange.wait_closed() for exchange in exchanges)
    return (
        [(told[i] - asked[i]) * 1e3 for i in ids],
        (answered - began) * 1e3,
        (closed - began) * 1e3,
        _given_up(receipts),
    )


def _given_up(receipts: list[CancelReceipt]) -> int:
    for receipt in receipts:
        receipt.wait()
    return sum(bool(receipt.abandoned) for receipt in receipts)


def _all_cancelled(repeats: int) -> Table:
    table = Table(f"A18: {STREAMS} runs stream a token each 20 ms and are cancelled one after the other")
    times: list[float] = []
    answers, closes, abandoned = [], [], 0
    with LoopbackProvider(Reply(tokens=5000, token_interval=0.02), process=True) as provider:
        model = OpenAIChat(id="bench", base_url=provider.base_url, api_key="bench")
        workflow = Workflow("bench", steps=[Step("one", agent=Agent(model, name="bench"))])
        for number in range(repeats):
            each, answered, closed, given_up = _stampede(provider, workflow, number)
            times += each
            answers.append(answered)
            closes.append(closed)
            abandoned += given_up
        still_open = provider.open_connections
    found = spread(times)
    assert found is not None
    table.add(
        Figure("cancel to terminal event, p99", found.p99, "ms", 50, note=f"p50/p99/worst {found}, {found.count} runs"),
        Figure("first cancel to last connection closed", max(closes), "ms", note=f"worst of {repeats}"),
        Figure(f"all {STREAMS} cancel() calls", max(answers), "ms", note=f"worst of {repeats}"),
        Figure("connections open afterwards", still_open, "", 0),
        Figure("runs declared abandoned", abandoned, "", 0, note="they were late, not deaf"),
    )
    return table.close()


def measure(*, quick: bool) -> list[Table]:
    """Measure both."""
    return [_two_hundred(), _all_cancelled(1 if quick else 5)]
