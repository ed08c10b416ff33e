"""A worker of `bench.scale`, `python -m bench.scale_worker URL MODE CONCURRENCY`: until its input ends.

MODE is `dbos`, or `alone`: the same runs taken from our tables with nothing in between, to see what DBOS costs.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from typing import Any

from desist import Step, StepInput, Workflow
from desist.db import PostgresDb
from desist.engine import Worker
from desist.runtime.background_loop import background_loop


def _say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def _wait(given: StepInput) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        _say("stopped", given.input, time.monotonic())


def workflows(db: Any) -> list[Workflow]:
    """Return one that is done at once, and one that waits until it is stopped."""
    quick = Workflow("Quick", steps=[Step("one", executor=lambda given: given.input)], db=db)
    return [quick, Workflow("Waits", steps=[Step("wait", executor=_wait)], db=db)]


async def _alone(db: Any, concurrency: int) -> None:
    known = {workflow.id: workflow for workflow in workflows(db)}
    turns = asyncio.Semaphore(concurrency)

    async def drive(run_id: str) -> None:
        try:
            taken = await asyncio.to_thread(db.store.take_queued, run_id)
            if taken is not None:
                run = known[taken.run.owner_id].open_from_queue(taken).start()
                await run.settled.wait_async()
        finally:
            turns.release()

    tasks: set[asyncio.Task[None]] = set()
    while True:
        await turns.acquire()
        rows = await asyncio.to_thread(db.store.send, sorted(known), 1)
        if not rows:
            turns.release()
            await asyncio.sleep(0.02)
            continue
        task = asyncio.ensure_future(drive(rows[0].run_id))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def main() -> None:
    """Work."""
    url, mode, concurrency = sys.argv[1], sys.argv[2], int(sys.argv[3])
    db = PostgresDb(url)
    if mode == "alone":
        background_loop.loop()
        threading.Thread(target=lambda: asyncio.run(_alone(db, concurrency)), daemon=True).start()
        _say("ready")
        sys.stdin.read()
        os._exit(0)
    with Worker(workflows=workflows(db), db=db, concurrency=concurrency, drain=0):
        _say("ready")
        sys.stdin.read()


if __name__ == "__main__":
    main()
