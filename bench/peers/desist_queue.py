"""Submitted runs of one step on Postgres: `python -m bench.peers.desist_queue worker|queue URL [COUNT]`."""

from __future__ import annotations

import sys
import time

from bench.peers.common import Worker, obey, report, timed
from desist import Step, StepInput, Workflow
from desist.db import PostgresDb
from desist.engine import Worker as DesistWorker

MODULE = "bench.peers.desist_queue"
CONCURRENCY = 10


async def _step(given: StepInput) -> str:
    return "done"


def _workflow(db: PostgresDb) -> Workflow:
    return Workflow("Bench", steps=[Step("step", executor=_step)], db=db)


def _queue(url: str, count: int) -> None:
    db = PostgresDb(url, timeout=60)
    workflow = _workflow(db)
    began = time.perf_counter()
    runs = [workflow.submit(str(number)) for number in range(count)]
    submit = 1e3 * (time.perf_counter() - began) / count
    workers = [Worker(MODULE, url) for _ in range(2)]
    began, before = time.perf_counter(), sum(worker.cpu() for worker in workers)
    for run in runs:
        run.result(600)
    took, cpu = time.perf_counter() - began, sum(worker.cpu() for worker in workers) - before
    latency = timed(lambda number: workflow.submit(str(number)).result(60), 100)
    before = workers[0].cpu()
    time.sleep(5)
    idle = (workers[0].cpu() - before) / 5
    for worker in workers:
        worker.close()
    figures = {"jobs/s": count / took, "cpu": 1e3 * cpu / count, "submit": {"p50": submit}, "latency": latency}
    report(figures | {"idle %": 100 * idle})
    db.close()


def main() -> None:
    """Do as the first argument says."""
    mode, url = sys.argv[1:3]
    if mode == "worker":
        db = PostgresDb(url, timeout=60)
        with DesistWorker(workflows=[_workflow(db)], db=db, concurrency=CONCURRENCY, drain=0):
            obey()
    else:
        _queue(url, int(sys.argv[3]))


if __name__ == "__main__":
    main()
