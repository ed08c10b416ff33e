"""A record that can't be read ends like any other orphan, keeps its text, and keeps no run of its tree from its end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from coordination_stuck import dead_process, sql

from desist.db import PostgresDb, SqliteDb
from desist.db.tables.base import EventRow, PartRow, RunRow

Db = SqliteDb | PostgresDb
pytestmark = pytest.mark.loud  # what can't be read is logged

BAD = '{"not": "a'


def leave(db: Db, damaged: str, *, resumable: bool) -> None:
    """Leave two runs of one tree whose process has died, the first one with a damaged column."""

    def row(run_id: str, parent: str | None) -> RunRow:
        text = json.dumps({"run_id": run_id, "status": "RUNNING"})
        made = RunRow(run_id, "workflow", "RUNNING", "s", "w", None, "r", parent, dead_process(), 1.0, 1.0, text, 1)
        made.resumable = int(resumable and parent is None)
        return made

    def work(tables: Any) -> None:
        top = row("r", None)
        if damaged in ("output", "cancel", "options"):
            setattr(top, damaged, BAD)
        tables.runs.put(top)
        tables.runs.put(row("child", "r"))
        if damaged in ("at", "again", "value"):
            kind = "again" if damaged == "again" else "step"
            tables.parts.add(
                PartRow("r", kind, "{}" if damaged == "value" else BAD, BAD if damaged == "value" else "{}")
            )
        if damaged == "events":
            tables.events.add([EventRow("r", 0, 0, 1, 0, '[{"run_id": "r"}]')])

    db._table_store.writer.put(work).result(30)


def statuses(place: str) -> dict[str, str]:
    return dict(sql(place, ("SELECT run_id, status FROM desist_runs", ())))


@pytest.mark.parametrize("damaged", ["output", "cancel", "options", "at", "again", "value", "events"])
def test_the_whole_tree_ends(db: Db, place: str, damaged: str) -> None:
    """Whichever column can't be read: both runs of the tree end in one go, and a second sweep finds nothing."""
    leave(db, damaged, resumable=False)
    assert sorted(db.end_lost_runs()) == ["child", "r"]
    final = "CANCELLED" if damaged == "cancel" else "ERROR"
    assert statuses(place) == {"r": final, "child": final}
    assert db.end_lost_runs() == []
    if damaged == "output":
        assert sql(place, ("SELECT output FROM desist_runs WHERE run_id = 'r'", ())) == [(BAD,)]
        return
    assert [event.event for event in db.follow("r") if event.is_terminal and event.run_id == "r"]


@pytest.mark.parametrize("how", ["take", "requeue", "take_queued"])
@pytest.mark.parametrize("damaged", ["output", "options"])
def test_what_can_t_go_on_ends(db: Db, place: str, damaged: str, how: str) -> None:
    """A run that was to be resumed and can't be read ends as an error; its child's end isn't undone by that."""
    leave(db, damaged, resumable=True)
    store = db._table_store
    if how == "take":
        assert store.take_orphans("workflow", "w") == []
    elif how == "requeue":
        assert store.workers.requeue_lost({"w"}) == []
    else:
        assert store.take_queued("r") is None
    assert statuses(place) == {"r": "ERROR", "child": "ERROR"}
    if damaged == "output":
        assert sql(place, ("SELECT output FROM desist_runs WHERE run_id = 'r'", ())) == [(BAD,)]
    else:
        assert "limits of run r can't be read" in db.get_run("r").error
