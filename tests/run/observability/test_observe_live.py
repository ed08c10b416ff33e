"""What runs now, what it is blocked in, what was given up; and stopping many runs by what they are."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import desist
from desist import Agent, Step, StepInput, Workflow
from desist.cancel import Outcome, RunStatus
from desist.exceptions import ConfigurationError
from desist.run.observability.live import AbandonedCallInfo, LiveRunInfo
from desist.streams.reader import SyncReader
from desist.testing import Call, Gate, ScriptedModel

PATIENCE = 10.0


@pytest.fixture(autouse=True)
def nothing_else_runs() -> Iterator[None]:
    """Other tests may have left runs that are still closing."""
    for receipt in desist.cancel_all():
        receipt.wait(PATIENCE)
    yield
    for receipt in desist.cancel_all():
        receipt.wait(PATIENCE)


def only(found: list[LiveRunInfo], kind: str) -> LiveRunInfo:
    """Return the one run of a kind."""
    (info,) = [info for info in found if info.kind == kind]
    return info


def test_a_tree_waiting_for_its_first_token_is_seen() -> None:
    """runs() shows each run of a tree, its ids, its open step, and that it waits for the model's first token."""
    gate = Gate()
    workflow = Workflow("Story", steps=[Step("write", agent=Agent(ScriptedModel([[gate, "x"]]), name="Writer"))])
    events = workflow.run("go", stream=True, session_id="s1", user_id="ann")
    gate.wait_reached()
    top, agent = only(desist.runs(), "workflow"), only(desist.runs(), "agent")
    events.close()
    assert (top.run_id, top.root_run_id, top.parent_run_id) == (events.run_id, events.run_id, None)
    assert (top.name, top.status, top.steps) == ("Story", RunStatus.running, ("write",))
    assert (top.session_id, top.user_id, top.workflow_id, top.cancel) == ("s1", "ann", "story", None)
    assert top.is_root and top.blocked_in == (f"agent 'Writer' (run {agent.run_id})",)
    assert (agent.parent_run_id, agent.root_run_id) == (top.run_id, top.run_id)
    assert agent.name == "Writer" and not agent.is_root and 0 <= agent.age <= top.age
    assert len(agent.blocked_in) == 1
    assert agent.blocked_in[0].startswith("model scripted: first token for 0.")


def test_after_the_first_token_the_next_is_waited_for() -> None:
    """The words say which token is waited for."""
    gate = Gate()
    events = Agent(ScriptedModel([["x", gate]])).run("go", stream=True)
    gate.wait_reached()
    (info,) = desist.runs()
    events.close()
    assert info.blocked_in[0].startswith("model scripted: next token for 0.")


def test_a_tool_in_a_thread_is_named_with_its_frame() -> None:
    """A sync tool shows its name, its seconds, and the line where its thread is."""
    entered, release = threading.Event(), threading.Event()

    def look_up() -> str:
        """Look up."""
        entered.set()
        release.wait(PATIENCE)
        return "found"

    events = Agent(ScriptedModel([Call("look_up"), "done"]), tools=[look_up]).run("go", stream=True)
    assert entered.wait(PATIENCE)
    (info,) = desist.runs()
    release.set()
    assert list(events)[-1].is_terminal
    assert len(info.blocked_in) == 1
    assert info.blocked_in[0].startswith("look_up for 0.") and "threading.py" in info.blocked_in[0]


def test_async_code_is_shown_by_its_frame() -> None:
    """An async function step of arun() shows the line that it awaits at."""

    async def main() -> tuple[LiveRunInfo, ...]:
        gate = Gate()

        async def fetch(given: StepInput) -> str:
            await gate.wait()
            return "x"

        run = asyncio.ensure_future(Workflow("W", steps=[fetch]).arun("go"))
        await asyncio.to_thread(gate.wait_reached)
        found = desist.runs()
        gate.open()
        await run
        return tuple(found)

    (info,) = asyncio.run(main())
    assert info.steps == ("fetch",)
    assert (
        len(info.blocked_in) == 1 and info.blocked_in[0].startswith("fetch for ") and " in wait (" in info.blocked_in[0]
    )


def test_a_run_that_is_being_cancelled_says_so() -> None:
    """While it stops, a run is CANCELLING in the list, with the record of its cancel; afterwards it is gone."""
    entered, release = threading.Event(), queue.SimpleQueue[None]()

    def deaf(given: StepInput) -> str:
        entered.set()
        release.get(timeout=PATIENCE)
        return "late"

    workflow = Workflow("W", steps=[deaf], grace=PATIENCE)
    events = workflow.run("go", stream=True)
    assert entered.wait(PATIENCE)
    receipt = workflow.cancel(events.run_id, reason="enough", by="ann")
    (info,) = desist.runs()
    release.put(None)
    assert receipt.wait(PATIENCE)
    assert info.status is RunStatus.cancelling
    assert info.cancel is not None and (info.cancel.reason, info.cancel.by) == ("enough", "ann")
    assert desist.runs() == []


def test_a_run_in_its_tool_is_a_child_in_the_list() -> None:
    """An agent that a tool runs in its thread is listed below the tool's run."""
    gate = Gate()
    inner = Agent(ScriptedModel([[gate]]), name="Inner")

    def ask() -> str:
        """Ask the other one."""
        return str(inner.run("go").content)

    events = Agent(ScriptedModel([Call("ask")]), tools=[ask], name="Outer").run("go", stream=True)
    gate.wait_reached()
    outer, below = desist.runs()
    events.close()
    assert (outer.name, below.name, below.parent_run_id) == ("Outer", "Inner", outer.run_id)
    assert outer.blocked_in[0].startswith("ask for") and outer.blocked_in[1].startswith("agent 'Inner'")


# -- cancel_all


def waiting(gate: Gate, **options: str) -> SyncReader[Any]:
    """Start a workflow whose agent waits at the gate."""
    workflow = Workflow(options.pop("name", "W"), steps=[Agent(ScriptedModel([[gate]]))])
    return workflow.run("go", stream=True, **options)


@pytest.mark.parametrize(
    "filters", [{"session_id": "s1"}, {"user_id": "ann"}, {"workflow_id": "first"}], ids=lambda f: next(iter(f))
)
def test_cancel_all_stops_what_fits_and_nothing_else(filters: dict[str, str]) -> None:
    """cancel_all(filter) cancels the trees that fit, with its words; the others go on; runs(filter) told before."""
    gate = Gate()
    hit = waiting(gate, name="First", session_id="s1", user_id="ann")
    spared = waiting(gate, name="Second", session_id="s2", user_id="bob")
    gate.wait_reached(2)
    planned = [info.run_id for info in desist.runs(**filters) if info.is_root]
    receipts = desist.cancel_all(**filters, reason="maintenance", by="ops")
    assert planned == [receipt.run_id for receipt in receipts] == [hit.run_id]
    assert all(receipts) and receipts[0].wait(PATIENCE)
    assert receipts[0].status is RunStatus.cancelled
    assert (receipts[0].reason, receipts[0].by) == ("maintenance", "ops")
    assert spared.run_id in {info.run_id for info in desist.runs()}
    gate.open()
    assert list(spared)[-1].status is RunStatus.completed


def test_cancel_all_by_age() -> None:
    """older_than picks the runs that began so long ago, and only them."""
    gate, gap = Gate(), 0.5
    old = waiting(gate)
    gate.wait_reached(1)
    threading.Event().wait(gap)  # an age is time that has passed
    young = waiting(gate)
    gate.wait_reached(2)
    assert desist.cancel_all(older_than=3600) == []
    age = next(info.age for info in desist.runs() if info.run_id == old.run_id)
    receipts = desist.cancel_all(older_than=age)
    assert [receipt.run_id for receipt in receipts] == [old.run_id]
    gate.open()
    assert list(young)[-1].status is RunStatus.completed


def test_cancel_all_without_a_filter_stops_everything_once() -> None:
    """Without a filter every tree is cancelled, one receipt each; asked again it says that it is done already."""
    gate = Gate()
    readers = [waiting(gate) for _ in range(3)]
    gate.wait_reached(3)
    receipts = desist.cancel_all()
    assert {receipt.run_id for receipt in receipts} == {reader.run_id for reader in readers}
    assert all(receipt.outcome is Outcome.accepted for receipt in receipts)
    assert all(receipt.wait(PATIENCE) for receipt in receipts)
    assert desist.cancel_all() == []


@pytest.mark.parametrize("wrong", [{"session_id": ""}, {"user_id": b"x"}, {"older_than": -1}, {"grace": -1}], ids=str)
def test_cancel_all_refuses_filters_that_mean_nothing(wrong: dict[str, object]) -> None:
    """A filter that fits no run is an error that names it, and nothing is cancelled."""
    gate = Gate()
    reader = waiting(gate)
    gate.wait_reached()
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        desist.cancel_all(**wrong)  # type: ignore[arg-type]
    assert all(info.cancel is None for info in desist.runs())
    reader.close()


# -- quarantine


def test_an_abandoned_thread_is_in_quarantine_until_it_ends() -> None:
    """Work that couldn't be stopped is listed, with its run, since when, and its stack; it goes when it has ended."""
    entered, release, left = threading.Event(), threading.Event(), threading.Event()

    def deaf() -> str:
        """Hear nothing."""
        entered.set()
        while not release.is_set():
            try:
                release.wait(PATIENCE)
            except BaseException:  # as C code would: it doesn't see what is raised in it
                continue
        left.set()
        return "late"

    before = {item.run_id for item in desist.quarantine()}
    agent = Agent(ScriptedModel([Call("deaf")]), tools=[deaf], grace=0.01)
    events = agent.run("go", stream=True)
    assert entered.wait(PATIENCE)
    receipt = agent.cancel(events.run_id)
    assert receipt.wait(PATIENCE)
    (item,) = [item for item in desist.quarantine() if item.run_id not in before]
    release.set()
    assert (item.name, item.kind, item.run_id, item.alive) == ("deaf", "thread", events.run_id, True)
    assert item.since == receipt.abandoned[0].since and "in deaf" in item.stack
    assert left.wait(PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while any(item.run_id == events.run_id for item in desist.quarantine()):  # its thread ends after `left` is set
        assert time.monotonic() < deadline


def test_a_task_that_swallows_its_cancellation_is_in_quarantine() -> None:
    """Async code that doesn't end is listed too, with the line where it is, after its run is over."""

    async def main() -> list[AbandonedCallInfo]:
        gate, end = Gate(), Gate()

        async def stubborn(given: StepInput) -> str:
            while not end.is_open:
                try:
                    await (end if gate.reached else gate).wait()
                except asyncio.CancelledError:
                    continue
            return "late"

        workflow = Workflow("W", steps=[stubborn], grace=0.01)
        events = workflow.arun("go", stream=True)
        await asyncio.to_thread(gate.wait_reached)
        receipt = await workflow.cancel(events.run_id)
        assert receipt.abandoned
        found = [item for item in desist.quarantine() if item.run_id == events.run_id]
        end.open()
        async for _ in events:
            pass
        return found

    (item,) = asyncio.run(main())
    assert item.kind == "task" and item.alive and "in stubborn" in item.stack
