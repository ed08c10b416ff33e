"""The terminal event of a run and the end of its record are stored together, whatever else is stored meanwhile."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from desist import Step, Workflow
from desist.db import PostgresDb, SqliteDb
from desist.db.tables.base import EventRow
from desist.exceptions import StoreError
from desist.testing import Gate

Shared = SqliteDb | PostgresDb


@pytest.fixture(params=["sqlite", "postgres"])
def shared(request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]) -> Iterator[Shared]:
    """A database of each kind that several processes use; it is told soon that a write takes too long."""
    place: Any = new_postgres() if request.param == "postgres" else tmp_path / "runs.db"
    opened = PostgresDb(place, timeout=1.0) if request.param == "postgres" else SqliteDb(place, timeout=1.0)
    yield opened
    opened.close()


def state(tables: Any, run_id: str) -> tuple[bool, bool]:
    """Return whether the terminal event of a run is stored, and whether its record has an end."""
    last, (row,) = tables.events.last(run_id), tables.runs.headers([run_id])
    return last is not None and last[1], row.is_final


class Half:
    """A workflow that has told half of a story, which isn't stored yet, and goes on when it may."""

    def __init__(self, db: Shared) -> None:
        self.gate, self.store = Gate(), db.store
        self.workflow = Workflow("W", steps=[Step("tell", executor=self._tell)], db=db)
        self.reader = self.workflow.run("go", run_id="r", stream=True)
        self.gate.wait_reached()
        self.writer: Any = self.store.writer  # type: ignore[attr-defined]  # of a shared store
        assert self.writer.flush()  # its start

    async def _tell(self, step_input: Any) -> AsyncIterator[str]:
        yield "half a "
        yield "story"
        await self.gate.wait()

    def now(self) -> tuple[bool, bool]:
        place: Any = self.store.backend  # type: ignore[attr-defined]
        with place.reading() as tables:
            return state(tables, "r")


@pytest.mark.loud  # that the end isn't known to be stored
@pytest.mark.parametrize("how", ["by itself", "cancelled"])
def test_a_flush_that_is_on_its_way_takes_no_terminal_event(
    shared: Shared, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits to be stored when a run ends, and is stored before the end of its record, isn't its terminal event."""
    monkeypatch.setattr("desist.db.events.flusher.FLUSH_INTERVAL", 3600.0)  # only this test flushes
    half = Half(shared)
    held, let_go = threading.Event(), threading.Event()
    half.writer.put(lambda tables: held.set() or let_go.wait(30))
    assert held.wait(30)
    half.store.flusher.flush()  # type: ignore[attr-defined]  # the flush waits for the writer
    between: list[tuple[bool, bool]] = []
    half.writer.put(lambda tables: between.append(state(tables, "r")))  # after the flush, and before the end
    if how == "cancelled":
        half.workflow.cancel("r")
    else:
        half.gate.open()
    assert list(half.reader)[-1].is_terminal  # told, because the database takes too long
    let_go.set()
    assert half.writer.flush(30)
    assert set(between) == {(False, False)}  # once more, if the server had ended a transaction that took so long
    assert half.now() == (True, True)


def test_only_an_end_stores_a_terminal_event(shared: Shared) -> None:
    """The statement that adds events refuses a terminal one; the one that writes the last ones asks for the end."""
    half, row = Half(shared), EventRow("r", 100, 100, 1, 1, "[]")
    with pytest.raises(StoreError, match="terminal event of run r may only be stored with the end"):
        half.writer.put(lambda tables: tables.events.add([row])).result(30)
    assert half.writer.put(lambda tables: tables.events.add_last([row])).result(30) is False
    assert half.now() == (False, False)
    half.gate.open()
    assert list(half.reader)[-1].is_terminal
    assert half.now() == (True, True)
    assert half.writer.put(lambda tables: tables.events.add_last([row])).result(30) is False
