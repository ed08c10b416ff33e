"""The process that `bench.kills` kills: `python -m bench.kills_worker PLACE NAME SEED [--finish]`.

It goes on with what the one before it has left, and works on 40 runs at a time, each a stream; some are cancelled. It
says `RUN_ID` for every run that has begun. With `--finish` it begins none, and ends when no run is open.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

from desist import Step, Workflow
from desist.db import PostgresDb, SqliteDb
from desist.exceptions import StoreError

#: Runs at a time, and the part of them that is cancelled from this process.
RUNS, CANCELLED = 40, 0.4
#: Seconds after which what is still open stays so.
PATIENCE = 90.0


async def tell(_: Any) -> AsyncIterator[str]:
    """Say something, for some fifty milliseconds."""
    for number in range(random.randrange(5, 30)):
        yield f"word {number} "
        await asyncio.sleep(random.random() * 0.005)


def workflows(db: SqliteDb | PostgresDb) -> list[Workflow]:
    """Return one whose runs go on after a crash, and one whose runs end by it."""
    return [
        Workflow(name, steps=[Step("one", executor=tell), Step("two", executor=tell)], db=db, on_crash=on_crash)  # type: ignore[arg-type]
        for name, on_crash in (("resumed", "resume"), ("marked", "mark"))
    ]


def work(makers: list[Workflow], name: str) -> None:
    """Run one after the other."""
    number = 0
    while True:
        number += 1
        run_id, workflow = f"{name}-{number}", random.choice(makers)
        reader = workflow.run("go", run_id=run_id, session_id=f"s{name}", stream=True, stream_events=True)
        os.write(1, f"{run_id}\n".encode())
        cancel_at = random.randrange(1, 40) if random.random() < CANCELLED else None
        for at, _ in enumerate(reader):
            if at == cancel_at:
                workflow.cancel(run_id)


def finish(db: Any, resumed: Workflow) -> None:
    """Go on with what is left until nothing is open, or for so long."""
    until, store = time.monotonic() + PATIENCE, db.store
    while time.monotonic() < until:
        try:
            resumed.resume_lost_runs()
            db.end_lost_runs()
        except StoreError:  # what stays open is counted
            pass
        with store.backend.reading() as tables:
            if not tables.runs.live():
                break
        time.sleep(0.5)
    db.close()


def main() -> None:
    """Work until killed, or finish."""
    place, name, seed = sys.argv[1:4]
    random.seed(int(seed))
    db: SqliteDb | PostgresDb = PostgresDb(place) if "://" in place else SqliteDb(place, timeout=20)
    makers = workflows(db)
    if "--finish" in sys.argv:
        finish(db, makers[0])
        return
    makers[0].resume_lost_runs()
    for number in range(RUNS):
        threading.Thread(target=work, args=(makers, f"{name}-{number}"), daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
