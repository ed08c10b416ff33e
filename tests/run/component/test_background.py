"""Runs in the background: pending at once, polled, followed from any event, cancelled by their id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from desist import Agent, Parallel, RunStatus, Step, StepInput, Workflow
from desist.cancel.registry import registry
from desist.db import SqliteDb
from desist.exceptions import ConfigurationError
from desist.run.execution.follow import RecentChannels
from desist.run.workflow import WorkflowCancelledEvent, WorkflowCompletedEvent
from desist.streams.replay_channel import ReplayChannel
from desist.testing import Gate, ScriptedModel

S = RunStatus
pytestmark = pytest.mark.anyio


def story(gate: Gate, **more: Any) -> Workflow:
    """A workflow that tells two pieces, waits at the gate, and tells two more."""

    async def tell(_: StepInput) -> AsyncIterator[str]:
        yield "one "
        yield "two "
        await gate.wait()
        yield "three "
        yield "four"

    return Workflow("Story", steps=[Step("tell", executor=tell)], **more)


async def until_reached(gate: Gate) -> None:
    await asyncio.to_thread(gate.wait_reached)


def texts(events: list[Any]) -> list[Any]:
    return [event.content for event in events if event.is_content]


async def settled(workflow: Workflow, run_id: str) -> Any:
    """Read along to the end, and return the output."""
    async for _ in workflow.afollow(run_id):
        pass
    return await workflow.aget_run(run_id)


async def test_pending_at_once_and_polled() -> None:
    """The output that is returned is PENDING and stays so; the run is found by its id, with what it has said so far."""
    gate = Gate()
    workflow = story(gate)
    pending = await workflow.arun("go", background=True)
    assert pending.status is S.pending and pending.run_id
    await until_reached(gate)
    now = workflow.get_run(pending.run_id)
    assert now is not None and (now.status, now.content) == (S.running, "one two ")
    gate.open()
    done = await settled(workflow, pending.run_id)
    assert (done.status, done.content) == (S.completed, "one two three four")
    assert pending.status is S.pending


@pytest.mark.parametrize("kind", ["agent", "step", "nested", "parallel"])
async def test_polled_in_the_middle_of_an_answer(kind: str, tmp_path: Path) -> None:
    """Whoever looks at a run sees the text that has come by then, wherever it is said; the copy doesn't change."""
    gate = Gate()
    db = SqliteDb(db_file=str(tmp_path / "runs.db"))
    agent = Agent(ScriptedModel([["half an ", gate, "answer"]]), name="A", db=db if kind == "agent" else None)
    steps: dict[str, list[Any]] = {
        "step": [Step("one", executor=lambda given: "done"), Step("two", agent=agent)],
        "nested": [Workflow("inner", steps=[agent])],
        "parallel": [Parallel("both", agent, Step("one", executor=lambda given: "done"))],
    }
    runner: Any = agent if kind == "agent" else Workflow("W", steps=steps[kind], db=db)
    reader = runner.arun("go", stream=True, background=True)
    await until_reached(gate)
    seen = [runner.get_run_output(reader.run_id), db.get_run(reader.run_id)]
    gate.open()
    async for _ in reader:
        pass
    for output in seen:
        assert output.status is S.running and "half an " in output.content and "answer" not in output.content
    assert "half an answer" in runner.get_run_output(reader.run_id).content


async def test_cancelled_while_queued() -> None:
    """Cancelled before its loop got to it: it never starts, and is stored as cancelled."""
    began: list[str] = []
    workflow = Workflow("W", steps=[Step("a", executor=lambda given: began.append("a"))])
    pending = await workflow.arun("go", background=True)
    receipt = workflow.cancel(pending.run_id, reason="never mind")
    assert receipt and receipt.outcome.value == "accepted"
    await receipt
    output = workflow.get_run(pending.run_id)
    assert output is not None and output.status is S.cancelled and output.cancel.reason == "never mind"
    assert began == []


async def test_cancelled_while_running() -> None:
    """It stops as any run does; who follows hears the end, with the text that was said."""
    gate = Gate()
    workflow = story(gate)
    pending = await workflow.arun("go", background=True)
    reader = workflow.afollow(pending.run_id)
    await until_reached(gate)
    assert workflow.cancel_run(pending.run_id)
    events = [event async for event in reader]
    assert isinstance(events[-1], WorkflowCancelledEvent) and events[-1].content == "one two "
    output = workflow.get_run(pending.run_id)
    assert output is not None and output.status is S.cancelled


async def test_the_stream_may_be_left() -> None:
    """Leaving the stream of a run in the background doesn't stop it; coming back misses nothing and doubles nothing."""
    gate = Gate()
    workflow = story(gate)
    seen = []
    async with workflow.arun("go", stream=True, background=True) as reader:
        async for event in reader:
            seen.append(event)
            if event.is_content and event.content == "two ":
                break
    run_id = reader.run_id
    await until_reached(gate)
    gate.open()
    rest = [event async for event in workflow.afollow(run_id, last_event_index=seen[-1].event_index)]
    assert texts(seen + rest) == ["one ", "two ", "three ", "four"]
    assert [event.event_index for event in seen + rest] == list(range(len(seen) + len(rest)))
    assert isinstance(rest[-1], WorkflowCompletedEvent)


async def test_many_follow() -> None:
    """Several follow at once, from different places, and one leaves in the middle: each gets all that is its."""
    gate = Gate()
    workflow = story(gate)
    pending = await workflow.arun("go", background=True)
    await until_reached(gate)
    whole, late = workflow.afollow(pending.run_id), workflow.afollow(pending.run_id, last_event_index=1)
    leaver = workflow.afollow(pending.run_id)
    await anext(leaver)
    await leaver.aclose()
    gate.open()
    everything = [event async for event in whole]
    assert texts(everything) == ["one ", "two ", "three ", "four"]
    assert [event async for event in late] == everything[2:]


async def test_text_before_a_cancel_is_not_told_after_it() -> None:
    """Guarantee 6: who comes back after a cancel gets the closing events, and no text that came before it."""
    gate = Gate()
    workflow = story(gate)
    pending = await workflow.arun("go", background=True)
    await until_reached(gate)
    assert workflow.cancel_run(pending.run_id)
    events = [event async for event in workflow.afollow(pending.run_id)]
    assert texts(events) == []
    assert events[-1].is_terminal and events[-1].content == "one two "


async def test_followed_after_its_end(tmp_path: Path) -> None:
    """A run that has ended is told from its events; where those are stored, also one of the foreground."""
    gate = Gate()
    gate.open()
    db = SqliteDb(db_file=str(tmp_path / "runs.db"))
    workflow = story(gate, db=db)
    pending = await workflow.arun("go", background=True)
    first = [event async for event in workflow.afollow(pending.run_id)]
    again = [event async for event in workflow.afollow(pending.run_id)]
    assert again == first and texts(first) == ["one ", "two ", "three ", "four"]
    output = await workflow.arun("go")
    *before, end = [event async for event in workflow.afollow(output.run_id)]
    assert texts(before) == texts(first)
    assert isinstance(end, WorkflowCompletedEvent) and end.content == "one two three four"


async def test_what_cannot_be_followed() -> None:
    """An unknown run, a run with a reader of its own, an index that is none: an error that says what to do."""
    gate = Gate()
    workflow = story(gate)
    with pytest.raises(ConfigurationError, match="no run 'nobody'"):
        workflow.afollow("nobody")
    reader = workflow.arun("go", stream=True)
    with pytest.raises(ConfigurationError, match="background=True"):
        workflow.afollow(reader.run_id)
    await reader.aclose()
    pending = await workflow.arun("go", background=True)
    with pytest.raises(ConfigurationError, match="last_event_index=-3"):
        workflow.afollow(pending.run_id, last_event_index=-3)
    workflow.cancel_run(pending.run_id)
    await workflow.cancel(pending.run_id)


def test_refused_in_sync_code() -> None:
    """run(background=True) is a RuntimeError that names arun, and nothing runs."""
    workflow = story(Gate())
    agent = Agent(ScriptedModel(["hello"]))
    for call in (lambda: workflow.run("go", background=True), lambda: agent.run("go", background=True)):
        with pytest.raises(RuntimeError, match="use arun"):
            call()
    assert registry.live() == []


def test_ends_with_its_loop() -> None:
    """A loop that ends takes its background runs along: cancelled with source shutdown, and stored."""
    gate = Gate()
    workflow = story(gate)

    async def start() -> str:
        pending = await workflow.arun("go", background=True)
        await until_reached(gate)
        return str(pending.run_id)

    run_id = asyncio.run(start())
    output = workflow.get_run(run_id)
    assert output is not None and output.status is S.cancelled and output.cancel.source.value == "shutdown"


def test_followed_from_another_thread() -> None:
    """A thread follows a run that lives on a loop elsewhere, and may leave it."""
    gate = Gate()
    workflow = story(gate)

    async def main() -> list[Any]:
        pending = await workflow.arun("go", background=True)
        reader = workflow.follow(pending.run_id)
        await until_reached(gate)
        gate.open()
        return await asyncio.to_thread(list, reader)

    events = asyncio.run(main())
    assert texts(events) == ["one ", "two ", "three ", "four"] and events[-1].is_terminal


async def test_an_agent_in_the_background() -> None:
    """Agents run in the background as workflows do."""
    gate = Gate()
    agent = Agent(ScriptedModel([["Once ", gate, "upon"]]), name="A")
    pending = await agent.arun("go", background=True)
    reader = agent.afollow(pending.run_id)
    await until_reached(gate)
    gate.open()
    events = [event async for event in reader]
    assert texts(events) == ["Once ", "upon"] and events[-1].is_terminal
    assert agent.get_run_output(pending.run_id).status is S.completed


async def test_several_runs_share_nothing() -> None:
    """Runs of one workflow at a time have their own state, events and outputs."""
    gates = [Gate() for _ in range(8)]

    async def count(given: StepInput, session_state: dict[str, Any]) -> str:
        session_state["seen"] = [*session_state.get("seen", []), given.input]
        await gates[int(given.input)].wait()
        session_state["seen"].append("after")
        return f"{given.input}"

    workflow = Workflow("W", steps=[Step("count", executor=count)], session_state={"base": []})
    pending = [await workflow.arun(str(n), background=True, session_id=f"s{n}") for n in range(8)]
    for gate in gates:
        await until_reached(gate)
    assert workflow.cancel_run(pending[3].run_id)
    for gate in gates:
        gate.open()
    outputs = [await settled(workflow, one.run_id) for one in pending]
    assert [output.status for output in outputs] == [S.cancelled if n == 3 else S.completed for n in range(8)]
    assert [output.content for n, output in enumerate(outputs) if n != 3] == [str(n) for n in range(8) if n != 3]
    states = [workflow.get_session_state(f"s{n}") for n in range(8) if n != 3]
    assert states == [{"base": [], "seen": [str(n), "after"]} for n in range(8) if n != 3]


def test_what_is_kept_is_bounded() -> None:
    """Of a run the last events are kept, and of ended runs so many in all; who wants older ones is told."""
    import threading

    channel: ReplayChannel[int] = ReplayChannel(threading.Lock(), keep=3)
    for number in range(5):
        channel.put(number)
    with pytest.raises(LookupError, match="before 2"):
        channel.follow("r", 0)
    follower = channel.follow("r", 1)
    assert [follower.channel.get() for _ in range(3)] == [2, 3, 4]
    recent = RecentChannels(keep=4)
    recent.add("a", channel)
    recent.add("b", channel)
    assert recent.get("a") is None and recent.get("b") is channel
