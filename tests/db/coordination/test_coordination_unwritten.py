"""An end that could not be written is written when that is possible again, by itself, as it was told."""

from __future__ import annotations

import threading

import pytest
from coordination_stuck import allow_changes, refuse_changes, sql

from desist import Workflow
from desist.db import PostgresDb, SqliteDb
from desist.db.store.unwritten_ends import UnwrittenEnds
from desist.exceptions import StoreError
from desist.run.events.base import RunStatus
from desist.run.storage.values import StoredRun
from desist.testing import Gate

pytestmark = pytest.mark.loud


def test_an_end_is_tried_again_by_itself(
    place: str, db: SqliteDb | PostgresDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody writes anything else, and looks meanwhile don't end the run otherwise; the record says nothing of it."""
    monkeypatch.setattr("desist.db.store.unwritten_ends.FIRST", 0.01)
    gate, store = Gate(), db._table_store
    store.unwritten._pause = 0.01

    async def wait(step_input: object) -> str:
        await gate.wait()
        return "done"

    reader = Workflow("W", steps=[wait], db=db).run("go", run_id="r", session_id="s", stream=True)
    gate.wait_reached()
    db.flush()
    refuse_changes(place, "r")
    gate.open()
    *_, last = reader
    assert last.status is RunStatus.completed and "it is refused" in last.run_output.store_error
    assert db.end_lost_runs() == [] and [run.status for run in db.get_runs("s")] == [RunStatus.completed]
    assert store.unwritten.get("r") is not None
    written = threading.Event()
    settle = store.unwritten.settle

    def settled(run: object, error: BaseException | None) -> None:
        settle(run, error)  # type: ignore[arg-type]
        if error is None:
            written.set()

    monkeypatch.setattr(store.unwritten, "settle", settled)
    allow_changes(place)
    assert written.wait(50)
    assert store.unwritten.get("r") is None
    assert sql(place, ("SELECT status FROM desist_runs", ())) == [("COMPLETED",)]
    assert sql(place, ("SELECT count(*) FROM desist_events WHERE terminal = 1", ())) == [(1,)]
    assert db.get_run("r").store_error is None


def test_an_end_is_in_the_writer_once(place: str, db: SqliteDb | PostgresDb) -> None:
    """Ends that wait are sent when another one was written, each once, however many successes there are."""
    store, sent = db._table_store, []
    ends = UnwrittenEnds(store.writer, lambda run: sent.append(run.run_id))
    runs = [
        StoredRun(run_id=name, kind="agent", status=RunStatus.error, output=None, root_run_id=name) for name in "abcd"
    ]
    for run in runs[:3]:
        ends.settle(run, StoreError("the disk is full"))
    for _ in range(2):
        ends.settle(runs[3], None)
    assert sent == ["a", "b", "c"]
    ends.settle(runs[0], None)  # the first answer
    assert sent == ["a", "b", "c"]
    ends.settle(runs[1], StoreError("again"))  # this one may be sent again
    ends.settle(runs[2], None)
    assert sent == ["a", "b", "c", "b"]
    ends.settle(runs[1], None)
    assert [ends.get(run.run_id) for run in runs] == [None] * 4
