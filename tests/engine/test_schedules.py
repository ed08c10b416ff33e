"""Runs that are submitted periodically: once for each time, by whichever worker is there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from engine_databases import open_db

from desist import Workflow
from desist.engine.schedules import Schedules
from desist.exceptions import ConfigurationError, UnsupportedError
from desist.workflow.schedule import next_time


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]) -> str:
    return new_postgres() if request.param == "postgres" else f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture
def db(url: str) -> Iterator[Any]:
    opened = open_db(url)
    yield opened
    opened.close()


def daily(db: Any) -> Workflow:
    return Workflow("Daily", steps=[lambda given: given.input], db=db)


def schedules(db: Any) -> Schedules:
    return Schedules(db.store, {"daily": daily(db)})


def set_next(db: Any, name: str, at: float) -> None:
    """Let the next time of a schedule be another one."""

    def work(tables: Any) -> None:
        tables.tx.execute(f"UPDATE {tables.tx.names.schedules} SET next_at = ? WHERE name = ?", (at, name))

    db.store.writer.put(work).result()


def test_times() -> None:
    """Times are those of the time zone, over changes of daylight saving time, too."""
    before = datetime(2026, 3, 28, 12, 0, tzinfo=UTC).timestamp()  # the clocks change on the 29th
    first = next_time("0 8 * * *", "Europe/Berlin", before)
    assert datetime.fromtimestamp(first, UTC) == datetime(2026, 3, 29, 6, 0, tzinfo=UTC)
    earlier = next_time("0 8 * * *", "Europe/Berlin", before - 86400)
    assert datetime.fromtimestamp(earlier, UTC) == datetime(2026, 3, 28, 7, 0, tzinfo=UTC)


def test_once_for_each_time(db: Any, url: str) -> None:
    """Workers that look at the same time submit one run, which has the time in its id; then comes the next time."""
    assert daily(db).schedule("0 8 * * *", "hello", priority=3) == "daily"
    at = datetime(2026, 1, 5, 8, 0, tzinfo=UTC).timestamp()
    set_next(db, "daily", at)
    databases = [open_db(url) for _ in range(4)]
    threads = [threading.Thread(target=schedules(mine).submit_due) for mine in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for mine in databases:
        mine.close()
    (run,) = db.queued_runs()
    assert run.run_id == "daily@2026-01-05T08:00:00Z"
    assert db.get_run(run.run_id).input == "hello"
    (schedule,) = db.schedules()
    assert schedule.next_at > at + 86400, "what was missed is made up for by one run"
    schedules(db).submit_due()
    assert len(db.queued_runs()) == 1


def test_a_crash_between_the_run_and_the_next_time(db: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that dies after it has submitted a run, before the next time is stored, leaves no second run."""
    daily(db).schedule("0 8 * * *")
    set_next(db, "daily", 1e9)
    monkeypatch.setattr(db.store.workers, "advance_schedule", lambda row, to: None)
    schedules(db).submit_due()
    monkeypatch.undo()
    schedules(db).submit_due()
    assert len(db.queued_runs()) == 1 and db.schedules()[0].next_at > 1e9


def test_replaced_and_removed(db: Any) -> None:
    """A schedule replaces that of its name; one that is removed submits nothing more."""
    story = daily(db)
    story.schedule("0 8 * * *", "a", name="x")
    story.schedule("0 9 * * *", "b", name="x")
    (one,) = db.schedules()
    assert (one.cron, one.input, one.workflow_id) == ("0 9 * * *", "b", "daily")
    set_next(db, "x", 1e9)
    assert db.delete_schedule("x") and not db.delete_schedule("x")
    schedules(db).submit_due()
    assert db.queued_runs() == [] and db.schedules() == []


@pytest.mark.loud
def test_a_run_that_is_refused_keeps_no_other_from_its_time(db: Any) -> None:
    """A schedule whose run can't be submitted any more is logged, and comes to its next time; others go on."""
    story = daily(db)
    story.schedule("0 8 * * *", "a", name="a")
    story.schedule("0 8 * * *", "b", name="b")

    def spoil(tables: Any) -> None:
        request = '{"input": "a", "options": {"colour": "red"}}'
        tables.tx.execute(f"UPDATE {tables.tx.names.schedules} SET request = ? WHERE name = 'a'", (request,))

    db.store.writer.put(spoil).result()
    for name in "ab":
        set_next(db, name, 1e9)
    schedules(db).submit_due()
    assert [run.run_id.partition("@")[0] for run in db.queued_runs()] == ["b"]
    assert all(one.next_at > 1e9 for one in db.schedules())


def test_what_is_refused(db: Any) -> None:
    """What can't be scheduled is refused when it is asked for."""
    story = daily(db)
    for cron, options, words in (
        ("0 8 *", {}, "not a cron expression"),
        ("0 8 * * *", {"timezone": "Mars/Phobos"}, "timezone='Mars/Phobos'"),
        ("0 8 * * *", {"run_id": "x"}, "takes no run_id="),
        ("0 8 * * *", {"session_state": {1: 2}}, "can't be sent"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            story.schedule(cron, **options)
    with pytest.raises(UnsupportedError, match="colour"):
        story.schedule("0 8 * * *", colour="red")
    assert db.schedules() == []
