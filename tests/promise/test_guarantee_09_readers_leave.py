"""Guarantee 9. Any time: A20: readers and waiters leave by break, an exception, close(), garbage, a cancelled task."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cancel_trial import PATIENCE, Journal

from desist import Agent, Workflow
from desist.cancel.registry import registry
from desist.models.openai import OpenAIChat
from desist.runtime.background_loop import background_loop
from desist.runtime.timer_thread import timers
from desist.testing import Gate, LoopbackProvider, Reply, ScriptedModel

WORDS = [f"w{i} " for i in range(500)]


@pytest.fixture
def workflow(provider: LoopbackProvider, model: OpenAIChat, journal: Journal) -> Workflow:
    """A workflow whose provider speaks for ten seconds, and that must not come to its last step."""
    provider.set_default(Reply(tokens=WORDS, token_interval=0.02))
    return Workflow("W", steps=[lambda given: "one", Agent(model, name="A"), _never], db=journal)


def _never(given: Any) -> None:
    raise AssertionError("a step ran after everybody had left")


def _check_left(provider: LoopbackProvider, journal: Journal, run_id: str, source: str = "consumer_closed") -> None:
    stored = journal.wait_final(run_id)
    assert (stored["status"], stored["cancel"]["source"]) == ("CANCELLED", source)
    assert stored["cancel"]["settled_at"] and stored["cancel"]["reason"]
    assert [step["success"] for step in stored["step_results"]] == [True, False]
    assert stored["content"].startswith("w0 ")
    provider.exchanges[0].wait_over(PATIENCE)
    assert provider.exchanges[0].closed_by == "client" and len(provider.exchanges) == 1
    assert provider.exchanges[0].tokens_sent_after_close <= 2
    provider.wait_open_connections(0, PATIENCE)


def _to_first_text(events: Iterator[Any]) -> Any:
    return next(event for event in events if event.event == "RunContent")


def _break(workflow: Workflow) -> str:
    for event in workflow.run("go", stream=True):
        if event.event == "RunContent":
            break
    return event.workflow_run_id


def _raise(workflow: Workflow) -> str:
    run_id = None
    try:
        for event in workflow.run("go", stream=True):
            run_id = event.run_id if run_id is None else run_id
            if event.event == "RunContent":
                raise KeyError("a mistake of the consumer's")
    except KeyError:
        pass
    return str(run_id)


def _close(workflow: Workflow) -> str:
    reader = workflow.run("go", stream=True)
    _to_first_text(reader)
    reader.close()
    assert workflow.get_run(reader.run_id).is_cancelled  # stored when close() returns
    reader.close()
    assert not any(event.is_content for event in reader)
    return reader.run_id


def _with(workflow: Workflow) -> str:
    with workflow.run("go", stream=True) as reader:
        _to_first_text(reader)
    assert workflow.get_run(reader.run_id).is_cancelled
    return reader.run_id


def _garbage(workflow: Workflow) -> str:
    reader = workflow.run("go", stream=True)
    _to_first_text(reader)
    run_id = reader.run_id
    ring = [reader]
    ring.append(ring)  # type: ignore[arg-type]  # only the collector finds it
    del reader, ring
    gc.collect()
    return run_id


@pytest.mark.parametrize("leave", [_break, _raise, _close, _with, _garbage], ids=lambda way: way.__name__[1:])
def test_a_sync_reader_leaves(
    leave: Callable[[Workflow], str], workflow: Workflow, provider: LoopbackProvider, journal: Journal
) -> None:
    """A20: whichever way a reader leaves, its run is cancelled, stored, and its connection closed."""
    _check_left(provider, journal, leave(workflow))


async def _abreak(workflow: Workflow) -> str:
    async for event in workflow.arun("go", stream=True):
        if event.event == "RunContent":
            break
    return event.workflow_run_id


async def _araise(workflow: Workflow) -> str:
    run_id = None
    try:
        async for event in workflow.arun("go", stream=True):
            run_id = event.run_id if run_id is None else run_id
            if event.event == "RunContent":
                raise KeyError("a mistake of the consumer's")
    except KeyError:
        pass
    return str(run_id)


async def _aclose(workflow: Workflow) -> str:
    reader = workflow.arun("go", stream=True)
    async for event in reader:
        if event.event == "RunContent":
            await reader.aclose()
            assert workflow.get_run(reader.run_id).is_cancelled
            break
    return reader.run_id


async def _awith(workflow: Workflow) -> str:
    async with workflow.arun("go", stream=True) as reader:
        async for event in reader:
            if event.event == "RunContent":
                break
    assert workflow.get_run(reader.run_id).is_cancelled
    return reader.run_id


async def _cancelled_reader(workflow: Workflow) -> str:
    speaking, ids = asyncio.Event(), []

    async def read() -> None:
        async for event in workflow.arun("go", stream=True):
            ids.append(event.run_id)
            if event.event == "RunContent":
                speaking.set()

    task = asyncio.create_task(read())
    await speaking.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert workflow.get_run(ids[0]).is_cancelled
    return str(ids[0])


async def _cancelled_waiter(workflow: Workflow) -> str:
    task = asyncio.create_task(workflow.arun("go", run_id="waited-for"))
    await _speaks(workflow)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert workflow.get_run("waited-for").is_cancelled
    return "waited-for"


async def _timed_out(workflow: Workflow) -> str:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60) as limit:
            task = asyncio.create_task(_speaks(workflow))
            task.add_done_callback(lambda _: limit.reschedule(0))
            await workflow.arun("go", run_id="timed-out")
    assert workflow.get_run("timed-out").is_cancelled
    return "timed-out"


async def _in_a_group(workflow: Workflow) -> str:
    async def fail() -> None:
        await _speaks(workflow)
        raise KeyError("the other task of the group")

    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(workflow.arun("go", run_id="in-a-group"))
            group.create_task(fail())
    assert workflow.get_run("in-a-group").is_cancelled
    return "in-a-group"


async def _speaks(workflow: Workflow) -> None:
    """Wait until the agent's run has taken its first words."""
    from desist.cancel.registry import registry

    while not any(getattr(run.body, "turn", None) and run.body.turn.text for run in registry.live()):  # type: ignore[attr-defined]
        await asyncio.sleep(0.001)


AWAYS = [_abreak, _araise, _aclose, _awith, _cancelled_reader, _cancelled_waiter, _timed_out, _in_a_group]


@pytest.mark.parametrize("leave", AWAYS, ids=lambda way: way.__name__.lstrip("_"))
def test_an_async_reader_leaves(
    leave: Callable[[Workflow], Any], workflow: Workflow, provider: LoopbackProvider, journal: Journal
) -> None:
    """A20: the same for async readers, waiters, timeouts and task groups."""

    async def main() -> str:
        run_id = await leave(workflow)
        await asyncio.to_thread(journal.wait_final, run_id)
        return run_id

    _check_left(provider, journal, asyncio.run(main()))


def test_a_loop_that_ends(workflow: Workflow, provider: LoopbackProvider, journal: Journal) -> None:
    """A20: a loop that ends while a run is live on it cancels the run, with source `shutdown`."""
    kept = []

    async def main() -> None:
        reader = workflow.arun("go", stream=True)
        kept.append(reader)
        async for event in reader:
            if event.event == "RunContent":
                return

    asyncio.run(main())
    _check_left(provider, journal, kept[0].run_id, "shutdown")


def test_leaving_after_the_end_changes_nothing(journal: Journal) -> None:
    """A reader that is closed after its run's end cancels nothing."""
    workflow = Workflow("W", steps=[lambda given: "one"], db=journal)
    with workflow.run("go", stream=True) as reader:
        events = list(reader)
    reader.close()
    assert events[-1].event == "WorkflowCompleted" and journal.last(reader.run_id)["status"] == "COMPLETED"


def test_a_reader_that_never_reads(journal: Journal) -> None:
    """A20: a reader that nobody asked for an event, dropped, stops its run too."""
    gate = Gate()
    workflow = Workflow("W", steps=[Agent(ScriptedModel([["a ", gate]]), name="A")], db=journal)
    reader = workflow.run("go", stream=True)
    gate.wait_reached()
    run_id = reader.run_id
    del reader
    assert journal.wait_final(run_id)["cancel"]["source"] == "consumer_closed"


@pytest.mark.parametrize("where", ["timer thread", "background loop"])
def test_a_garbage_collection_in_a_thread_that_the_run_needs(where: str) -> None:
    """A20: a generator of the user's around a reader is closed by a collection in a thread of the library: the run is
    cancelled, and that thread doesn't wait for itself."""
    gate = Gate()
    workflow = Workflow("W", steps=[Agent(ScriptedModel([["text ", gate]]), name="A")])

    def read() -> Iterator[Any]:
        with workflow.run("go", run_id="g", stream=True) as events:
            yield from events

    reading = read()
    next(reading)
    gate.wait_reached()
    run = registry.get("g")
    assert run is not None
    if where == "timer thread":
        timers.start()
        timers.call_soon(reading.close)
    else:
        background_loop.loop().call_soon_threadsafe(reading.close)
    assert run.settled.wait(PATIENCE)
    assert run.status == "CANCELLED"
