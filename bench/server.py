"""Over HTTP on loopback: from a cancel request to the terminal event at a follower; 200 streams; stops in a second.

The server runs in a thread of this process, the clients on a loop of their own: both pay for one interpreter.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from bench.statistics import percentile
from bench.table import Figure, Table
from desist.workflow import Step, StepInput, Workflow

__all__ = ["measure"]


@contextlib.contextmanager
def _served() -> Iterator[str]:
    import uvicorn

    from desist.server import Limits, create_app

    async def tell(_: StepInput) -> AsyncIterator[str]:
        yield "once "
        await asyncio.Event().wait()

    app = create_app(
        workflows=[Workflow("W", steps=[Step("tell", executor=tell)])], limits=Limits(runs=1000, streams=1000)
    )
    server = uvicorn.Server(uvicorn.Config(app, port=0, ws="none", log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


async def _follow(client: Any, run_id: str, ready: asyncio.Semaphore) -> float:
    """Return when the terminal event was there."""
    async with client.stream("GET", f"/v1/runs/{run_id}/events") as response:
        async for line in response.aiter_lines():
            if line == "event: StepOutput":
                ready.release()
            if line == "event: WorkflowCancelled":
                return time.perf_counter()
    raise RuntimeError("the stream ended without its end")


async def _stops(url: str, count: int) -> tuple[list[float], float]:
    """Follow so many runs, stop all of them; return each one's latency, and the seconds that it took in all."""
    import httpx2

    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=url, timeout=60, trust_env=False, limits=limits) as client:
        ids = [(await client.post("/v1/runs", json={"workflow": "w"})).json()["run_id"] for _ in range(count)]
        ready = asyncio.Semaphore(0)
        told = [asyncio.ensure_future(_follow(client, run_id, ready)) for run_id in ids]
        for _ in ids:
            await ready.acquire()
        began: list[float] = []
        start = time.perf_counter()
        for run_id in ids:
            began.append(time.perf_counter())
            await client.post(f"/v1/runs/{run_id}/cancel", json={})
        ends = await asyncio.gather(*told)
    return [1000 * (end - at) for at, end in zip(began, ends, strict=True)], max(ends) - start


def measure(*, quick: bool = False) -> list[Table]:
    """Measure; see the module."""
    table = Table("server: stopping over HTTP, clients and server in one process")
    with _served() as url:
        alone = [asyncio.run(_stops(url, 1))[0][0] for _ in range(20 if quick else 100)]
        many, took = asyncio.run(_stops(url, 50 if quick else 200))
    table.add(
        Figure("one stream: request to terminal event, p50", percentile(alone, 0.5), "ms"),
        Figure("one stream: request to terminal event, p99", percentile(alone, 0.99), "ms"),
        Figure(f"{len(many)} streams: request to terminal event, p99", percentile(many, 0.99), "ms"),
        Figure(f"{len(many)} streams: stops a second", len(many) / took, "/s", 100.0, "more"),
    )
    return [table.close()]
