"""An end that is tried again although it was written."""

from __future__ import annotations

from typing import Any

import pytest

from desist import Step, Workflow
from desist.db import PostgresDb, SqliteDb
from desist.run.stored import StoredRun


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
