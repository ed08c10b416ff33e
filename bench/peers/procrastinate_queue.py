"""Jobs of procrastinate on Postgres: `python -m bench.peers.procrastinate_queue worker|queue|growth URL [COUNT]`.

`growth` measures the claim alone, by the function of its schema that its workers call, while other jobs wait.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any

import procrastinate
import psycopg

from bench.peers.common import Worker, obey, report, spread, timed_async

MODULE = "bench.peers.procrastinate_queue"
CONCURRENCY = 10


def _app(url: str) -> Any:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))
    app.task(queue="mine", name="drive")(_job)
    return app


async def _job(run_id: str) -> None:
    """Do nothing."""


async def _work(url: str) -> None:
    app = _app(url)
    async with app.open_async():
        threading.Thread(target=obey, daemon=True).start()
        await app.run_worker_async(
            queues=["mine"], concurrency=CONCURRENCY, install_signal_handlers=False, delete_jobs="always"
        )


async def _queue(url: str, count: int) -> None:
    app = _app(url)
    async with app.open_async(), await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await app.schema_manager.apply_schema_async()
        drive = app.tasks["drive"]

        async def left() -> int:
            row = await (await connection.execute("SELECT count(*) FROM procrastinate_jobs")).fetchone()
            assert row is not None
            return int(row[0])

        async def one(number: int) -> None:
            await drive.defer_async(run_id=str(number))
            while await left():
                await asyncio.sleep(0.001)

        submit = await timed_async(lambda number: drive.defer_async(run_id=str(number)), 300)
        await connection.execute("DELETE FROM procrastinate_jobs")
        began = time.perf_counter()
        await drive.batch_defer_async(*[{"run_id": str(number)} for number in range(count)])
        batch = 1e3 * (time.perf_counter() - began) / count
        workers = [await asyncio.to_thread(Worker, MODULE, url) for _ in range(2)]
        began, before = time.perf_counter(), sum(worker.cpu() for worker in workers)
        start = await left()
        while await left():
            await asyncio.sleep(0.02)
        took, cpu = time.perf_counter() - began, sum(worker.cpu() for worker in workers) - before
        latency = await timed_async(one, 100)
        before = workers[0].cpu()
        await asyncio.sleep(5)
        idle = (workers[0].cpu() - before) / 5
        for worker in workers:
            worker.close()
    report(
        {
            "jobs/s": start / took,
            "cpu": 1e3 * cpu / start,
            "submit": submit,
            "batch": batch,
            "latency": latency,
            "idle %": 100 * idle,
        }
    )


OTHERS = {
    "1,000 of its own wait": ("'mine', 'drive', NULL, NULL::timestamptz", 1_000),
    "100,000 of its own wait": ("'mine', 'drive', NULL, NULL::timestamptz", 100_000),
    "100,000 of another queue wait": ("'other', 'drive', NULL, NULL::timestamptz", 100_000),
    "100,000 are due in a week": ("'mine', 'drive', NULL, now() + interval '7 days'", 100_000),
    "10,000 wait for one lock": ("'mine', 'drive', 'k', NULL::timestamptz", 10_000),
}


async def _growth(url: str) -> None:
    app = _app(url)
    found: dict[str, Any] = {}
    async with app.open_async(), await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        do: Any = connection.execute
        await app.schema_manager.apply_schema_async()
        await do("INSERT INTO procrastinate_workers DEFAULT VALUES")
        columns = "procrastinate_jobs (queue_name, task_name, lock, scheduled_at)"
        for name, (values, count) in OTHERS.items():
            await do("TRUNCATE procrastinate_jobs CASCADE")
            await do(f"INSERT INTO {columns} SELECT {values} FROM generate_series(1, {count})")
            if "lock" in name:
                first = "(SELECT min(id) FROM procrastinate_jobs)"
                await do(f"UPDATE procrastinate_jobs SET status = 'doing' WHERE id = {first}")
            await do(f"INSERT INTO {columns} SELECT 'mine', 'drive', NULL, NULL FROM generate_series(1, 100)")
            await do("ANALYZE")
            times = list[float]()
            worker = (await (await do("SELECT min(id) FROM procrastinate_workers")).fetchone())[0]
            for _ in range(50):
                began = time.perf_counter()
                query = "SELECT id FROM procrastinate_fetch_job_v2(ARRAY['mine']::varchar[], %s)"
                assert await (await do(query, (worker,))).fetchone()
                times.append(time.perf_counter() - began)
            found[name] = spread(times)
    report(found)


def main() -> None:
    """Do as the first argument says."""
    mode, url = sys.argv[1:3]
    if mode == "worker":
        asyncio.run(_work(url))
    elif mode == "queue":
        asyncio.run(_queue(url, int(sys.argv[3])))
    else:
        asyncio.run(_growth(url))


if __name__ == "__main__":
    main()
