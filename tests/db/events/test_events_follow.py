"""Following runs through the store: from any process, from any event on, none lost and none doubled."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from database_worker import Worker
from events_workflows import PIECES, answer, says, story, texts, told
from raw_tables import Db, open_async, open_db

from desist import Agent, Step, Workflow
from desist.db import InMemoryDb, JsonDb
from desist.db.events import pages
from desist.exceptions import ConfigurationError, StoreError
from desist.run.events.base import RunStatus
from desist.runtime.timer_thread import timers
from desist.testing import Gate, ScriptedModel, assert_no_leaks

PLACES = ["sqlite"]  # over Postgres `test_events_crash` follows, too; each place costs 20 s
S = RunStatus
Start = Callable[[], Worker]


def opened() -> Gate:
    gate = Gate()
    gate.open()
    return gate


def as_told(events: list[Any]) -> list[list[Any]]:
    return [list(one) for one in told(events)]


@pytest.mark.parametrize("how", ["events", "text", "background"])
@pytest.mark.parametrize("kind", ["story", "answer"])
def test_as_the_own_reader(worker: Start, db: Db, kind: str, how: str) -> None:
    """Whoever follows from another process hears what the run's own reader hears: the same events and numbers."""
    other = worker()
    other.start(kind, "r", how=how)
    reader = db.follow("r")
    events = [next(reader)]
    other.tell("open", "r")
    events += reader
    assert as_told(events) == other.hear("end", "r")["told"]
    assert [event.event_index for event in events] == list(range(len(events)))
    assert events[-1].is_terminal and sum(event.is_terminal and event.run_id == "r" for event in events) == 1


def test_a_run_that_nobody_reads(worker: Start, db: Db) -> None:
    """A plain `run()` has no reader: what it does is told to who follows all the same, as with stream_events."""
    other = worker()
    other.start("story", "r", how="plain")
    reader = db.follow("r")
    before = []
    while texts(before) != list(PIECES[:2]):
        before.append(next(reader))
    other.tell("open", "r")
    events = [*before, *reader]
    names = [event.event for event in events if not event.is_content]
    assert names[0] == "WorkflowStarted" and names[-1] == "WorkflowCompleted"
    assert names.count("StepStarted") == names.count("StepCompleted") == 3
    assert texts(events) == list(PIECES)


def test_live(worker: Start, db: Db) -> None:
    """What a run tells is heard while it waits, by who came early and by who came late; then both hear its end."""
    other = worker()
    other.start("story", "r")
    early = db.follow("r")
    first = []
    while texts(first) != list(PIECES[:2]):
        first.append(next(early))
    late = db.follow("r", first[-2].event_index)
    assert says(next(late)) == PIECES[1]
    other.tell("open", "r")
    rest, later = list(early), list(late)
    assert told(rest) == told(later)
    assert texts(rest) == list(PIECES[2:])
    assert rest[-1].status is S.completed and rest[-1].run_output.run_id == "r"


@pytest.mark.parametrize("kind", [story, answer])
def test_from_any_event_on(db: Db, kind: Callable[..., Workflow]) -> None:
    """For each event: who has seen it hears those after it, once each."""
    workflow = kind(opened(), db)
    run_id = list(workflow.run("go", stream=True, stream_events=True))[-1].run_id
    everything = list(db.follow(run_id))
    for seen in range(len(everything)):
        assert told(list(workflow.follow(run_id, last_event_index=seen))) == told(everything[seen + 1 :])
    assert list(db.follow(run_id, 10**6)) == []


def test_stored_events_are_equal(db: Db) -> None:
    """What is stored of an event is all of it: as it was told, so it is read."""
    workflow = story(opened(), db)
    live = list(workflow.run("go", stream=True, stream_events=True))
    stored = list(db.follow(live[0].run_id))
    assert [event.to_dict() for event in stored] == [event.to_dict() for event in live]
    assert [type(event) for event in stored] == [type(event) for event in live]
    completed = [event for event in stored if event.event == "StepCompleted"]
    assert [event.step_response.content for event in completed] == ["first is done", "".join(PIECES), "last is done"]


@pytest.mark.anyio
async def test_async(worker: Start, db: Db, place: str) -> None:
    """`AsyncSqliteDb.afollow` and `workflow.afollow` do the same on a loop, which is free meanwhile."""
    other = worker()
    await asyncio.to_thread(other.start, "story", "r")
    async_db = open_async(place)
    workflow = story(opened(), db)

    async def read(reader: Any) -> list[Any]:
        return [event async for event in reader]

    tasks = [asyncio.ensure_future(read(reader)) for reader in (async_db.afollow("r"), workflow.afollow("r"))]
    await asyncio.to_thread(other.tell, "open", "r")
    one, two = await asyncio.gather(*tasks)
    assert told(one) == told(two) and one[-1].status is S.completed
    await async_db.close()


def test_a_follower_cancels(worker: Start, db: Db) -> None:
    """Who follows may cancel: no text comes after it, and the last event has all that was said."""
    other = worker()
    other.start("story", "r", how="text")
    events, receipt = [], None
    for event in db.follow("r"):
        events.append(event)
        if receipt is None and says(event) == PIECES[1]:
            receipt = db.cancel("r", reason="enough")
    assert receipt and receipt.wait(30)
    last = events[-1]
    assert (last.event, last.reason, last.content) == ("WorkflowCancelled", "enough", "one two ")
    assert texts(events) == list(PIECES[:2])
    assert as_told(events) == other.hear("end", "r")["told"]


def test_text_that_came_before_a_cancel(worker: Start, db: Db) -> None:
    """Who comes after a cancel isn't told the text again that came before: the last event has it."""
    other = worker()
    other.start("story", "r")
    assert db.cancel("r").wait(30)
    events = list(db.follow("r", 0))
    assert texts(events) == []
    assert events[-1].content == "one two "


# -- leaving


def following(db: Db) -> int:
    store: Any = db.store
    return len(store.followers._cursors)


@pytest.mark.parametrize("how", ["close", "with", "garbage", "cancel"])
def test_who_leaves_leaves_nothing(worker: Start, db: Db, place: str, how: str) -> None:
    """By `close()`, `break`, garbage collection or a cancelled task: the run goes on, nobody looks any more."""
    other = worker()
    other.start("story", "r")
    reader: Any = db.follow("r")
    assert next(reader).event == "WorkflowStarted"
    assert following(db) == 1
    if how == "close":
        reader.close()
    elif how == "with":
        with reader:
            for _ in reader:
                break
    elif how == "garbage":
        bell = threading.Event()
        reader._run.settled.add_done_callback(bell.set)
        del reader
        gc.collect()
        assert bell.wait(30)
    else:
        reader.close()
        asyncio.run(_left_by_its_task(place))
    assert following(db) == 0
    other.tell("open", "r")
    assert other.hear("end", "r")["told"][-1][1] == "WorkflowCompleted"


async def _left_by_its_task(place: str) -> None:
    reader = open_async(place).afollow("r")
    begun = asyncio.Event()

    async def read() -> None:
        async for event in reader:
            if says(event) == PIECES[1]:
                begun.set()

    task = asyncio.ensure_future(read())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_no_leaks(place: str) -> None:
    """A hundred followers, some of whom leave: no thread, no connection is left when the database is closed."""
    story(opened(), InMemoryDb()).run("go")  # the loops and the timer thread stay
    with assert_no_leaks(threads=1, fds=1, sockets=1, settle=20):  # the channel: its thread for some seconds more
        db = open_db(place)
        run_id = story(opened(), db).run("go").run_id
        for number in range(100):
            reader = db.follow(run_id)
            next(reader)
            if number % 2:
                reader.close()
            else:
                assert list(reader)[-1].is_terminal
        db.close()


# -- what can't be followed, and what is followed otherwise


def test_unknown(db: Db, place: str) -> None:
    """A run that isn't there, a number that is none: an error that says so; and nobody looks for it any more."""
    with pytest.raises(ConfigurationError, match="no run 'nobody'"):
        db.follow("nobody")
    with pytest.raises(ConfigurationError, match="last_event_index=-2"):
        db.follow("nobody", -2)

    async def read() -> None:
        async for _ in open_async(place).afollow("nobody"):
            pass

    with pytest.raises(ConfigurationError, match="no run 'nobody'"):
        asyncio.run(read())
    while following(db):  # the reader is garbage, and the timer thread takes it out
        gc.collect()


def test_closed_while_it_is_followed(worker: Start, place: str) -> None:
    """A database that is closed under a reader tells it so: it doesn't wait for ever."""
    other, db = worker(), open_db(place)
    other.start("story", "r")
    reader = db.follow("r")
    while says(next(reader)) != PIECES[1]:
        pass
    timers.call_at(0.0, db.close)
    with pytest.raises(StoreError, match="closed"):
        next(reader)


def test_deleted_while_it_is_followed(worker: Start, db: Db) -> None:
    """A run whose record is deleted tells its follower no more: an error, not a wait for ever."""
    other = worker()
    other.start("story", "r")
    reader = db.follow("r")
    while says(next(reader)) != PIECES[1]:
        pass
    assert db.delete_run("r")
    with pytest.raises(ConfigurationError, match="was deleted while it was followed"):
        next(reader)


@pytest.mark.parametrize("kind", [InMemoryDb, JsonDb])
def test_databases_of_one_process(kind: Callable[..., Any], tmp_path: Path) -> None:
    """Where other processes can't look, the end of a run is told, and its events only while they are in memory."""
    db = kind() if kind is InMemoryDb else kind(tmp_path)
    workflow = story(opened(), db)
    run_id = workflow.run("go").run_id
    assert [event.event for event in db.follow(run_id)] == ["WorkflowCompleted"]
    with pytest.raises(ConfigurationError, match="no run 'nobody'"):
        db.follow("nobody")
    with closing(workflow.run("go", stream=True)) as reader, pytest.raises(ConfigurationError, match="background"):
        db.follow(reader.run_id)


def test_followed_at_once_after_the_last_event() -> None:
    """A reader that has the last event is told the end, also in the moment before the run has left the registry."""
    db = InMemoryDb()
    workflow = Workflow("W", steps=[lambda given: "x"], db=db)
    for _ in range(300):
        reader = workflow.run("go", stream=True)
        assert list(reader)[-1].is_terminal
        assert [event.event for event in db.follow(reader.run_id)] == ["WorkflowCompleted"]


def test_a_step_s_run(worker: Start, db: Db) -> None:
    """The id of a run in a workflow finds the stream that it tells in."""
    other = worker()
    other.start("answer", "r")
    events = []
    for event in db.follow("r"):
        events.append(event)
        if texts(events) == ["half an ", "answer"]:
            break
    inner = events[-1].run_id
    assert inner != "r"
    reader = db.follow(inner)
    assert next(reader).event == "WorkflowStarted"
    other.tell("open", "r")
    assert list(reader)[-1].run_id == "r"
    [end] = db.follow(inner)
    assert (end.event, end.content) == ("RunCompleted", "half an answer and the rest")


def test_a_run_inside_a_function(db: Db) -> None:
    """A run that a step's function starts isn't part of the stream: it has one of its own, which is stored, too."""
    agent = Agent(ScriptedModel(["said inside"]), name="Inner")
    ids = []

    async def ask(_: Any) -> str:
        output = await agent.arun("?")
        ids.append(output.run_id)
        return str(output.content)

    outer = Workflow("W", steps=[Step("ask", executor=ask)], db=db).run("go")
    assert texts(list(db.follow(ids[0]))) == ["said ", "inside"]
    assert "inside" not in texts(list(db.follow(outer.run_id)))


def test_one_id_again(db: Db) -> None:
    """A run with the id of an earlier one begins at 0; what that one told is gone."""
    workflow = story(opened(), db)
    workflow.run("go", run_id="r", additional_data={"n": 1})
    first = list(db.follow("r"))
    workflow.run("go", run_id="r")
    again = list(db.follow("r"))
    assert [event.event_index for event in again] == list(range(len(first)))


def test_nobody_pays_without_a_shared_store(db: Db, tmp_path: Path) -> None:
    """Only a store that others use records what is told; and events that nobody reads aren't kept in memory."""
    seen: list[Any] = []

    async def look(_: Any) -> str:
        from desist.run.execution.run import current_run

        seen.append(current_run())
        return "x"

    for where in (None, InMemoryDb(), JsonDb(tmp_path / "json"), db):
        Workflow("W", steps=[look], db=where).run("go")
    *others, shared = seen
    assert [run.emitter.event_buffer for run in others] == [None] * 3
    assert shared.emitter.event_buffer is not None and len(shared.channel._items) == 0


@pytest.mark.parametrize("rows", range(1, 6))
def test_the_last_event_ends_a_page(db: Db, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """However many rows are read at a time, the last event is told, also where it is the last of so many."""

    async def stored(step_input: Any) -> str:
        db.flush()  # each step's events are a row
        return "x"

    Workflow("W", steps=[Step(name, executor=stored) for name in "abc"], db=db).run(
        "go", run_id="r", stream_events=True
    )
    whole = told(list(db.follow("r")))
    monkeypatch.setattr(pages, "ROWS", rows)
    assert told(list(db.follow("r"))) == whole
