"""Followers in other processes are notified of events; the poll is there for notifications that are lost."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from database_worker import Worker
from events_workflows import PIECES, texts
from raw_tables import Db, execute

from desist import Step, Workflow
from desist.db.store import follower_registration
from desist.testing import Gate

PLACES = ["sqlite", "postgres"]
Start = Callable[[], Worker]


def followers(db: Db) -> list[tuple[str, str]]:
    store: Any = db.store
    with store.backend.reading() as tables:
        found: list[tuple[str, str]] = tables.followers.of_runs(["r"])
    return found


def wait_until(holds: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def begin(other: Worker, db: Db) -> tuple[Any, list[Any]]:
    """Follow a run of another process that has told half of its story; return when this process is registered."""
    other.start("story", "r", how="plain")
    reader = db.follow("r")
    before = []
    while texts(before) != list(PIECES[:2]):
        before.append(next(reader))
    wait_until(lambda: followers(db))
    return reader, before


def test_notified(worker: Start, db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that follows a run hears all of it without polling, and asks for nothing more after the end."""
    other = worker()
    reader, before = begin(other, db)
    monkeypatch.setattr("desist.db.store.follower_hub.NOTIFIED", 3600.0)
    monkeypatch.setattr("desist.db.store.follower_hub.ALIVE", 3600.0)
    other.tell("open", "r")
    events = [*before, *reader]
    assert texts(events) == list(PIECES) and events[-1].is_terminal
    assert not followers(db)


def test_a_lost_notification(worker: Start, db: Db, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower that isn't notified hears everything all the same: it polls, slowly."""
    monkeypatch.setattr("desist.db.store.follower_hub.NOTIFIED", 0.2)
    other = worker()
    reader, before = begin(other, db)
    execute(place, "DELETE FROM desist_followers")
    other.tell("open", "r")
    events = [*before, *reader]
    assert texts(events) == list(PIECES) and events[-1].is_terminal


def test_a_follower_that_leaves(worker: Start, db: Db) -> None:
    """Who stops following is no longer notified."""
    other = worker()
    reader, _ = begin(other, db)
    reader.close()
    wait_until(lambda: not followers(db))
    other.tell("open", "r")
    other.hear("end", "r")


def test_a_follower_that_was_killed(db: Db, place: str) -> None:
    """The entry of a process that has died harms no run: it is removed when it can't be notified, at the latest with
    the end of the run."""
    gate, more = Gate(), Gate()

    async def tell(step_input: Any) -> Any:
        await gate.wait()
        yield "one"
        await more.wait()
        yield "two"

    workflow = Workflow("W", steps=[Step("tell", executor=tell)], db=db)
    reader = workflow.run("go", run_id="r", stream=True)
    gate.wait_reached()
    gone = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    gone.bind("")
    address = gone.getsockname().hex() if "://" not in place else "desist_" + 20 * "0"
    gone.close()
    execute(place, f"INSERT INTO desist_followers VALUES ('r', '{address}', {time.time() + 3600})")
    gate.open()
    more.wait_reached()
    if "://" not in place:
        wait_until(lambda: not followers(db))
    more.open()
    assert list(reader)[-1].is_terminal
    db.flush()
    assert not followers(db)


def test_entries_end_by_their_time(db: Db, place: str) -> None:
    """An entry that isn't renewed is removed by the next process that begins to follow."""
    execute(place, f"INSERT INTO desist_followers VALUES ('old', 'a', {time.time() - 1})")
    store: Any = db.store

    def work(tables: Any) -> Any:
        tables.followers.put(["r"], "b", follower_registration.KEPT)
        return tables.followers.of_runs(["old", "r"])

    assert store.writer.put(work).result(30) == [("r", "b")]
