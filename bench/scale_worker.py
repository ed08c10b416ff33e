"""A worker of `bench.scale`, `python -m bench.scale_worker URL CONCURRENCY`: until its input ends."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

from desist import Step, StepInput, Workflow
from desist.db import PostgresDb, SqliteDb
from desist.engine import Worker


def _say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def _wait(given: StepInput) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        _say("stopped", given.input, time.monotonic())


def open_db(url: str) -> Any:
    """Return the database of a URL."""
    return PostgresDb(url) if url.startswith("postgresql") else SqliteDb(db_url=url)


def workflows(db: Any) -> list[Workflow]:
    """Return one that is done at once, and one that waits until it is stopped."""
    quick = Workflow("Quick", steps=[Step("one", executor=lambda given: given.input)], db=db)
    return [quick, Workflow("Waits", steps=[Step("wait", executor=_wait)], db=db)]


def main() -> None:
    """Work."""
    url, concurrency = sys.argv[1], int(sys.argv[2])
    db = open_db(url)
    with Worker(workflows=workflows(db), db=db, concurrency=concurrency, drain=0):
        _say("ready")
        sys.stdin.read()


if __name__ == "__main__":
    main()
