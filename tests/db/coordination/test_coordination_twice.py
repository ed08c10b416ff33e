"""An end that is tried again although it was written."""

from __future__ import annotations

from typing import Any

import pytest
from coordination_stuck import allow_changes, refuse_changes, sql

from desist import Step, Workflow
from desist.cancel.reason import CancelReason, Source
from desist.db import PostgresDb, SqliteDb
from desist.db.records.cancel_request import CancelRequestRow
from desist.exceptions import LeaseLostError
from desist.run.storage.values import CancelRequest, StoredRun
from desist.testing import Gate


def test_an_end_that_is_written_twice(db: SqliteDb | PostgresDb, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time changes nothing: what the run told before its end is still stored."""
    store: Any = db.store
    ended: list[StoredRun] = []
    settle = store.unwritten.settle

    def settled(run: StoredRun, error: BaseException | None) -> None:
        ended.append(run)
        settle(run, error)

    def second(step_input: Any) -> str:
        db.flush()  # what was told by now is stored apart from the end
        return "two"

    monkeypatch.setattr(store.unwritten, "settle", settled)
    steps = [Step("one", executor=lambda step_input: "one"), Step("two", executor=second)]
    told = list(Workflow("W", steps=steps, db=db).run("go", run_id="r", stream=True, stream_events=True))
    db.flush()
    while not ended:
        pass
    store.save_run(ended[0]).result(30)
    assert [event.event_index for event in db.follow("r")] == [event.event_index for event in told]


@pytest.mark.loud
def test_an_end_that_was_refused_stays_refused(
    place: str, db: SqliteDb | PostgresDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee 1: a cancel was accepted before the end could be written. Tried again, however often, it isn't."""
    monkeypatch.setattr("desist.db.store.unwritten_ends.FIRST", 1000.0)  # not by itself
    gate, store = Gate(), db._table_store
    store.unwritten._pause = 1000.0

    async def wait(step_input: object) -> str:
        await gate.wait()
        return "done"

    reader = Workflow("W", steps=[wait], db=db).run("go", run_id="r", stream=True)
    gate.wait_reached()
    db.flush()
    refuse_changes(place, "r")
    gate.open()
    *_, last = reader
    run = store.unwritten.get("r")
    assert run is not None and last.run_output.store_error
    allow_changes(place)
    note = CancelRequestRow.of(CancelRequest(reason=CancelReason(source=Source.user, text="enough"))).text_of()
    sql(place, (f"UPDATE desist_runs SET cancel = '{note}'", ()))
    for _ in range(2):
        with pytest.raises(LeaseLostError):
            store.save_run(run).result(30)
    assert sql(place, ("SELECT status FROM desist_runs", ())) != [("COMPLETED",)]
