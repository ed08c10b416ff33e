"""The other process of `bench.events_store`, `python -m bench.events_worker PLACE COUNT`: a run that tells the time."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from desist import Step, Workflow
from desist.db import PostgresDb, SqliteDb


async def tell(_: Any) -> AsyncIterator[str]:
    """Say what time it is, again and again."""
    await asyncio.sleep(0.5)  # until the other process follows
    for _number in range(int(sys.argv[2])):
        yield str(time.time())
        await asyncio.sleep(0.005)


def main() -> None:
    """Say the id, run, say when the end was heard."""
    place = sys.argv[1]
    db = PostgresDb(place) if "://" in place else SqliteDb(place)
    reader = Workflow("bench", steps=[Step("tell", executor=tell)], db=db).run("go", stream=True)
    next(reader)
    db.flush()
    print(reader.run_id, flush=True)
    for _ in reader:
        pass
    print(time.time(), flush=True)
    db.close()


if __name__ == "__main__":
    main()
