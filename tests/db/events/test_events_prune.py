"""`db.prune`: what is forgotten of old runs, and what stays."""

from __future__ import annotations

import time
from typing import Any

import pytest
from events_workflows import answer, story
from raw_tables import Db, execute, open_async

from desist.db import InMemoryDb
from desist.db.store.pruning import PruneResult
from desist.exceptions import ConfigurationError
from desist.testing import Gate

PLACES = ["sqlite", "postgres"]


def opened() -> Gate:
    gate = Gate()
    gate.open()
    return gate


def aged(place: str, run_id: str, seconds: float) -> None:
    """Let a run have ended so long ago."""
    execute(place, "UPDATE desist_runs SET updated_at = ? WHERE root_run_id = ?", time.time() - seconds, run_id)


def count(place: str, table: str) -> int:
    return int(execute(place, f"SELECT count(*) FROM {table}")[0][0])


def test_events_of_old_runs(db: Db, place: str) -> None:
    """The events go, the record and the last event stay, with its number; younger runs keep everything."""
    for run_id in ("old", "new"):
        story(opened(), db).run("go", run_id=run_id)
    before = list(db.follow("old"))
    aged(place, "old", 100)
    assert db.prune(50) == PruneResult(told=1)
    [last] = db.follow("old")
    assert (last.event, last.event_index, last.content) == ("WorkflowCompleted", before[-1].event_index, "last is done")
    assert list(db.follow("old", last.event_index)) == []
    assert db.get_run("old").content == "last is done"
    assert len(list(db.follow("new"))) == len(before)
    assert db.prune(50) == PruneResult()


def test_runs_too(db: Db, place: str) -> None:
    """With `runs=True` whole trees go, with their events; their session stays."""
    for run_id in ("old", "new"):
        answer(opened(), db).run("go", run_id=run_id, session_id="s")
    assert count(place, "desist_runs") == 4
    aged(place, "old", 100)
    assert db.prune(50, runs=True) == PruneResult(runs=2)
    assert [run.run_id for run in db.get_runs("s", "workflow")] == ["new"]
    assert db.get_run("old") is None
    assert db.prune(0, runs=True) == PruneResult(runs=2)
    assert [count(place, f"desist_{what}") for what in ("runs", "events", "run_parts", "sessions")] == [0, 0, 0, 1]


async def _async(place: str) -> Any:
    db = open_async(place)
    found = await db.prune(0)
    await db.close()
    return found


def test_runs_that_go_on_stay(db: Db, place: str) -> None:
    """A run that hasn't ended is left as it is, whatever its age; one that ended in it, too, while it goes on."""
    import asyncio

    gate = Gate()
    reader = answer(gate, db).run("go", run_id="r", stream=True)
    gate.wait_reached()
    aged(place, "r", 1e6)
    db.flush()
    assert db.prune(10, runs=True) == PruneResult()
    gate.open()
    told = list(reader)
    assert [event.event_index for event in db.follow("r")] == [event.event_index for event in told]
    assert asyncio.run(_async(place)) == PruneResult(told=1)


def test_what_can_t_be_pruned() -> None:
    """A negative age is an error; a database that keeps no events has nothing to prune."""
    with pytest.raises(ConfigurationError, match="older_than=-1"):
        InMemoryDb().prune(-1)
    assert InMemoryDb().prune(0) == PruneResult()
    with pytest.raises(ConfigurationError, match="InMemoryDb can't delete runs by age"):
        InMemoryDb().prune(0, runs=True)
