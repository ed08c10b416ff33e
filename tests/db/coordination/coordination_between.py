"""A process that is killed between the emitted end of a run and its storage: `coordination_between.py PLACE HOW`.

What had gathered of the run's events is stored in between, by a flush that was on its way before the end was made.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import desist.db.events.flusher
from desist import Step, Workflow
from desist.db import PostgresDb, SqliteDb
from desist.testing import Gate

desist.db.events.flusher.FLUSH_INTERVAL = 3600.0  # only what is said here flushes


class Held:
    """A job that holds the writer until it is let go."""

    def __init__(self, writer: Any) -> None:
        self.reached, self._go = threading.Event(), threading.Event()
        writer.put(self._wait)

    def _wait(self, tables: Any) -> None:
        self.reached.set()
        assert self._go.wait(50)

    def let_go(self) -> None:
        self._go.set()


def main(place: str, how: str) -> None:
    db: Any = PostgresDb(place, timeout=1.0) if "://" in place else SqliteDb(place, timeout=1.0)
    gate, store = Gate(), db.store

    async def tell(step_input: Any) -> AsyncIterator[str]:
        yield "half a "
        yield "story"
        await gate.wait()

    workflow = Workflow("W", steps=[Step("tell", executor=tell)], db=db)
    reader = workflow.run("go", run_id="r", stream=True)
    gate.wait_reached()
    assert store.writer.flush()  # its start
    first = Held(store.writer)
    assert first.reached.wait(50)
    second = Held(store.writer)  # in one transaction with the flush, where a database puts jobs together
    store.flusher.flush()
    first.let_go()
    assert second.reached.wait(50)
    store.writer.put(lambda tables: os.kill(os.getpid(), signal.SIGKILL))  # before the end, which comes now
    if how == "cancelled":
        workflow.cancel("r")
    else:
        gate.open()
    assert list(reader)[-1].is_terminal  # told as not stored: the database takes too long
    second.let_go()
    threading.Event().wait(50)


if __name__ == "__main__":
    main(*sys.argv[1:])
