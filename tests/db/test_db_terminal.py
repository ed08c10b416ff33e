"""The terminal event of a run and the end of its record are stored together, whatever else is being stored meanwhile."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from desist import Step, Workflow
from desist.db import PostgresDb, SqliteDb
from desist.db.tables import FINAL, EventRow
from desist.exceptions import StoreError
from desist.testing import Gate

Shared = SqliteDb | PostgresDb


@pytest.fixture(params=["sqlite", "postgres"])
def shared(request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]) -> Iterator[Shared]:
    """A database of each kind that several processes use."""
    opened = PostgresDb(new_postgres()) if request.param == "postgres" else SqliteDb(tmp_path / "runs.db")
    yield opened
    opened.close()


def state(db: Shared, run_id: str) -> tuple[bool, bool]:
    """Return whether a run has a terminal event, and whether its record has an end: as it is on the disk."""
    store: Any = db.store
    with store.place.reading() as tables:
        row = tables.get_run(run_id)
        return tables.terminal_event(run_id) is not None, row.status in FINAL


class Held:
    """The writer, held up before a job of its own: what is put meanwhile comes after it, in the order in which it was put."""

    def __init__(self, db: Shared) -> None:
        self.reached, self._open = threading.Event(), threading.Event()
        store: Any = db.store
        self.done = store.writer.put(self._wait)
        assert self.reached.wait(30)

    def _wait(self, tables: Any) -> None:
        self.reached.set()
        assert self._open.wait(30)

    def let_go(self) -> None:
        self._open.set()
        self.done.result(30)


@pytest.mark.parametrize("how", ["own end", "cancel"])
def test_a_flush_that_is_queued_before_the_end_takes_no_terminal_event(
    shared: Shared, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush that was queued while a run went on, and is done when its end is made but not written, stores no end."""
    gate, store = Gate(), shared.store
    monkeypatch.setattr("desist.db.telling.GATHER", 3600.0)  # only this test flushes

    async def tell(step_input: Any) -> AsyncIterator[str]:
        yield "half a "
        yield "story"
        await gate.wait()

    workflow = Workflow("W", steps=[Step("tell", executor=tell)], db=shared)
    reader = workflow.run("go", run_id="r", stream=True)
    gate.wait_reached()
    shared.flush()
    telling: Any = store.telling  # type: ignore[attr-defined]  # of a shared store
    writer: Any = store.writer  # type: ignore[attr-defined]
    ended = threading.Event()
    put = writer.put

    def slow(work: Callable[[Any], Any], **how: Any) -> Any:
        """Come between the making of the end and its job: a flush that is on its way is done then."""
        run = _run()
        if run is not None and run.recorder._ended and not ended.is_set():
            ended.set()
            telling._due.append(run.recorder)
            telling.now()
            put(lambda tables: None).result(30)
            seen.append(state(shared, "r"))
        return put(work, **how)

    def _run() -> Any:
        from desist.cancel.registry import registry

        return registry.get("r")

    seen: list[tuple[bool, bool]] = []
    monkeypatch.setattr(writer, "put", slow)
    if how == "cancel":
        workflow.cancel("r")
    else:
        gate.open()
    *_, last = reader
    assert last.is_terminal
    if how == "cancel":
        assert seen == [(False, False)]
    assert state(shared, "r") == (True, True)


def test_an_own_end_that_is_slow(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the record decides about a run's own end, its terminal event is in no place from which a flush takes it."""
    gate = Gate()

    async def wait(step_input: Any) -> str:
        await gate.wait()
        return "done"

    workflow = Workflow("W", steps=[Step("wait", executor=wait)], db=shared)
    reader = workflow.run("go", run_id="r", stream=True)
    gate.wait_reached()
    shared.flush()
    taken: list[Any] = []
    import desist.db.asking as asking

    real = asking.end

    def slow(tables: Any, run: Any, epoch: int, read: Any = None) -> Any:
        taken.extend(event for _, event in run.recorder.take())
        return real(tables, run, epoch, read)

    monkeypatch.setattr(asking, "end", slow)
    gate.open()
    *_, last = reader
    assert last.is_terminal and state(shared, "r") == (True, True)
    assert not any(event.is_terminal and event.run_id == "r" for event in taken)


def test_only_an_end_stores_a_terminal_event(shared: Shared) -> None:
    """The statement that adds events refuses a terminal one; that which writes the last ones asks for the end itself."""
    gate = Gate()

    async def wait(step_input: Any) -> str:
        await gate.wait()
        return "done"

    reader = Workflow("W", steps=[Step("wait", executor=wait)], db=shared).run("go", run_id="r", stream=True)
    gate.wait_reached()
    row = EventRow("r", 100, 100, 1, 1, "[]")
    writer: Any = shared.store.writer  # type: ignore[attr-defined]  # of a shared store
    with pytest.raises(StoreError, match="terminal event of run r is stored with the end"):
        writer.put(lambda tables: tables.add_events([row])).result(30)
    assert writer.put(lambda tables: tables.put_last_events([row])).result(30) is False
    assert state(shared, "r") == (False, False)
    gate.open()
    assert [event for event in reader][-1].is_terminal
    assert state(shared, "r") == (True, True)
    assert writer.put(lambda tables: tables.put_last_events([row])).result(30) is False
