"""Submitted runs of one step on Postgres: `python -m bench.peers.desist_queue worker|queue|growth URL [COUNT]`.

`growth` measures one claim, as a worker makes it, while other runs wait.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from bench.peers.common import Worker, obey, report, spread, timed
from desist import Step, StepInput, Workflow
from desist.db import PostgresDb
from desist.engine import Worker as DesistWorker

MODULE = "bench.peers.desist_queue"
CONCURRENCY = 10
#: Name, workflow, number and options of runs that wait meanwhile; as in `procrastinate_queue`.
OTHERS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "1,000 of its own wait": ("bench", 1_000, {}),
    "100,000 of its own wait": ("bench", 100_000, {}),
    "100,000 of another queue wait": ("other", 100_000, {}),
    "100,000 are due in a week": ("bench", 100_000, {"delay": 7 * 86400.0}),
    "10,000 wait for one lock": ("bench", 10_000, {"concurrency_key": "k"}),
}


async def _step(given: StepInput) -> str:
    return "done"


def _workflow(db: PostgresDb) -> Workflow:
    return Workflow("Bench", steps=[Step("step", executor=_step)], db=db)


def _queue(url: str, count: int) -> None:
    db = PostgresDb(url, timeout=60)
    workflow = _workflow(db)
    submit = timed(lambda number: workflow.submit(str(number)), 300)
    began = time.perf_counter()
    runs = workflow.submit_many(str(number) for number in range(count))
    batch = 1e3 * (time.perf_counter() - began) / count
    count += 310
    workers = [Worker(MODULE, url) for _ in range(2)]
    began, before = time.perf_counter(), sum(worker.cpu() for worker in workers)
    for _ in runs.results(timeout=600):
        pass
    took, cpu = time.perf_counter() - began, sum(worker.cpu() for worker in workers) - before
    latency = timed(lambda number: workflow.submit(str(number)).result(60), 100)
    before = workers[0].cpu()
    time.sleep(5)
    idle = (workers[0].cpu() - before) / 5
    for worker in workers:
        worker.close()
    figures = {"jobs/s": count / took, "cpu": 1e3 * cpu / count, "submit": submit, "batch": batch, "latency": latency}
    report(figures | {"idle %": 100 * idle})
    db.close()


def _growth(urls: list[str]) -> None:
    """Measure each kind of other runs in a database of its own."""
    found: dict[str, Any] = {}
    for url, (name, (workflow_id, count, options)) in zip(urls, OTHERS.items(), strict=True):
        db = PostgresDb(url, timeout=120)
        mine = _workflow(db)
        others = mine if workflow_id == mine.id else Workflow("Other", steps=[_step], db=db)
        for first in range(0, count, 5000):
            others.submit_many((str(number) for number in range(first, min(count, first + 5000))), **options)
        mine.submit_many(str(number) for number in range(100))
        with db.store.backend.reading() as tables:  # type: ignore[attr-defined]
            tables.tx.execute("ANALYZE")
        times = list[float]()
        for _ in range(50):
            began = time.perf_counter()
            assert db.store.workers.claim_batch([mine.id], 1).runs  # type: ignore[attr-defined]
            times.append(time.perf_counter() - began)
        found[name] = spread(times)
        db.close()
    report(found)


def main() -> None:
    """Do as the first argument says."""
    mode, url = sys.argv[1:3]
    if mode == "worker":
        db = PostgresDb(url, timeout=60)
        with DesistWorker(workflows=[_workflow(db)], db=db, concurrency=CONCURRENCY, drain=0):
            obey()
    elif mode == "queue":
        _queue(url, int(sys.argv[3]))
    else:
        _growth(sys.argv[2:])


if __name__ == "__main__":
    main()
