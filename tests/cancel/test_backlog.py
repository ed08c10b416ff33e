"""A reader that doesn't read: what waits for it is bounded, the run doesn't wait, and nothing is missing unsaid."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from desist import Workflow
from desist.db import SqliteDb
from desist.run.agent import RunContentEvent
from desist.run.events.base import RunStatus
from desist.streams import channel as bridges
from desist.streams.channel import Backlog, ChannelClosed, EventChannel


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is fifty, so that tests needn't make a million."""
    monkeypatch.setattr(Backlog.__init__, "__defaults__", (None, 50))


def talk(count: int) -> Any:
    def step(step_input: object) -> Any:
        for number in range(count):
            yield RunContentEvent(content=f"{number} ")

    return step


def test_pieces_are_dropped_and_counted() -> None:
    """Without a store, pieces of text beyond the bound are dropped; the next event says so; the end has all."""
    events = Workflow("W", steps=[talk(500)]).run("go", stream=True, stream_events=True)
    run: Any = events._run
    run.settled.wait()
    assert len(run.channel._items) <= 60
    seen = list(events)
    *_, last = seen
    assert last.status is RunStatus.completed and last.content == "".join(f"{n} " for n in range(500))
    kinds = [type(event).__name__ for event in seen]
    assert kinds.count("StepStartedEvent") == kinds.count("StepCompletedEvent") == 1
    expected = 0
    for event in seen:
        assert event.event_index == expected + (event.missed_events or 0)
        expected = event.event_index + 1
    assert sum(event.missed_events or 0 for event in seen) > 400


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_reader_goes_on_in_the_store(tmp_path: Path, asynchronous: bool) -> None:
    """With a database that others share, a reader that comes late has every event once."""
    db = SqliteDb(tmp_path / "runs.db")
    workflow = Workflow("W", steps=[talk(500)], db=db)

    async def read() -> list[Any]:
        reader = workflow.arun("go", stream=True)
        first = await anext(reader)
        run: Any = reader._run
        await run.settled.wait_async()
        assert len(run.channel._items) <= 50
        return [first, *[event async for event in reader]]

    if asynchronous:
        seen = asyncio.run(read())
    else:
        events = workflow.run("go", stream=True)
        run: Any = events._run
        run.settled.wait()
        assert len(run.channel._items) == 50
        seen = list(events)
    assert [event.event_index for event in seen] == list(range(len(seen))) and len(seen) > 500
    assert "".join(e.content for e in seen if e.is_content) == "".join(f"{n} " for n in range(500))
    assert seen[-1].status is RunStatus.completed and not any(event.missed_events for event in seen)
    db.close()


def test_everything_is_bounded() -> None:
    """Of events that can't be spared, twice as many are kept; the last one always."""
    channel: EventChannel[list[Any]] = EventChannel(
        threading.Lock(), None, Backlog(lambda item: item[0] == "text", lambda item, missed: item.append(missed))
    )
    for number in range(1000):
        channel.put(["step", number])
    channel.close([["end", 0]])
    seen = []
    with pytest.raises(ChannelClosed):
        while True:
            seen.append(channel.get())
    assert len(seen) == 101 and seen[-1] == ["end", 0, 900]
    assert bridges.UNREAD == 100_000
