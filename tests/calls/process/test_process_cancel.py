"""A10: a cancel meets work in a process. When the run has settled, nothing of it is left."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import light_functions
import psutil
import pytest
from process_census import PATIENCE, Door, is_there, marked_processes, wait_gone

import process_functions as functions
from desist import Agent, Step, Workflow, tool
from desist.calls.process.pool import MAX_WORKERS, pool
from desist.cancel import CancelReceipt
from desist.cancel.status import RunStatus
from desist.testing import Call, ScriptedModel


def begin(function: Callable[..., Any], *args: Any, **options: Any) -> tuple[Workflow, Any]:
    """Start a workflow with one isolated step; return it, and its reader."""
    executor = functools.partial(call_step, function, args)
    if function in (functions.streaming, functions.flooding):
        executor = functools.partial(stream_step, function, args)
    workflow = Workflow("w", steps=[Step("one", executor=executor, isolation="process", **options)])
    return workflow, workflow.run("go", stream=True)


# Steps of this module can be imported by workers as any other.
def call_step(function: Callable[..., Any], args: tuple[Any, ...], given: Any) -> Any:
    return function(*args)


def stream_step(function: Callable[..., Any], args: tuple[Any, ...], given: Any) -> Any:
    yield from function(*args)


def stop(workflow: Workflow, events: Any, **options: Any) -> CancelReceipt:
    receipt = workflow.cancel(events.run_id, **options)
    assert receipt
    assert receipt.wait(PATIENCE)
    assert receipt.status is RunStatus.cancelled
    return receipt


@pytest.mark.parametrize("name", ["sleeping", "hashing", "backtracking", "summing", "deaf", "swallowing"])
def test_whatever_it_does(name: str, door: Door) -> None:
    """Asleep, computing in C with and without the GIL, deaf to SIGTERM: it is dead when the run has settled."""
    workflow, events = begin(getattr(functions, name), door.path)
    pid, _ = door.answer()
    receipt = stop(workflow, events)
    assert not is_there(pid)
    assert receipt.abandoned == []
    assert [event.event for event in events][-1] == "WorkflowCancelled"


def test_what_hears_ends_before_the_grace(door: Door) -> None:
    """SIGTERM comes at once: what heeds it needn't wait for the end of a long grace."""
    workflow, events = begin(functions.sleeping, door.path, grace=30)
    door.answer()
    receipt = stop(workflow, events)
    assert receipt.settled_at - receipt.requested_at < 15


def test_cleanup_runs(door: Door, note: Path) -> None:
    """In the function the SIGTERM is a RunCancelled: `except` and `finally` run."""
    workflow, events = begin(functions.cleaning, door.path, str(note), grace=30)
    door.answer()
    stop(workflow, events)
    assert note.read_text() == "RunCancelled finally"


@pytest.mark.parametrize("how", ["step", "cancel"])
def test_a_longer_grace(how: str, door: Door, note: Path) -> None:
    """The grace of the step, or of the cancel, goes before that of the run."""
    workflow, events = begin(functions.slow_cleaning, door.path, str(note), **({"grace": 30} if how == "step" else {}))
    door.answer()
    stop(workflow, events, **({"grace": 30} if how == "cancel" else {}))
    assert note.read_text() == "done"


@pytest.mark.parametrize("again", [{"grace": 0.01}, {"force": True}])
def test_a_second_cancel_shortens_the_grace(again: dict[str, Any], door: Door) -> None:
    """A repeated cancel with less grace, or a forced one, kills what was given a minute."""
    workflow, events = begin(functions.deaf, door.path, grace=60)
    pid, _ = door.answer()
    assert workflow.cancel(events.run_id)
    assert is_there(pid)
    receipt = stop(workflow, events, **again)
    assert not is_there(pid) and receipt.abandoned == []
    assert receipt.settled_at - receipt.requested_at < 30


def test_a_forced_cancel(door: Door) -> None:
    """force=True kills at once."""
    workflow, events = begin(functions.deaf, door.path, grace=60)
    pid, _ = door.answer()
    receipt = stop(workflow, events, force=True)
    assert not is_there(pid) and receipt.abandoned == []


def test_what_it_started(door: Door) -> None:
    """A child, a double-forked orphan, a child in a session of its own and an orphan there: all are gone."""
    workflow, events = begin(functions.parent_of_many, door.path)
    door.answer()
    until = time.monotonic() + PATIENCE
    while len(marked_processes()) < 5 and time.monotonic() < until:  # they are the shell's: nothing tells
        threading.Event().wait(0.005)
    assert len(marked_processes()) == 5
    stop(workflow, events)
    assert marked_processes() == []


def test_a_generator(door: Door, note: Path) -> None:
    """What a generator yielded by then is kept, and its `finally` runs."""
    workflow, events = begin(functions.streaming, door.path, str(note), grace=30)
    door.answer()
    said = (event.content for event in events if event.event == "StepOutput")
    assert [next(said), next(said)] == ["one ", "two "]
    stop(workflow, events)
    assert workflow.get_run(events.run_id).content == "one two "
    assert note.read_text() == "finally"


def test_a_generator_that_waits_to_be_heard(door: Door, note: Path) -> None:
    """One that is blocked in sending, because nobody reads any more, hears the cancel too."""
    workflow, events = begin(functions.flooding, door.path, str(note), grace=30)
    door.answer()
    stop(workflow, events)
    assert note.read_text() == "finally"


def test_never(door: Door, note: Path, release: Door) -> None:
    """interrupt="never": the cancel is accepted at once, and the run waits until the work has ended by itself."""
    workflow, events = begin(functions.finishing, door.path, release.path, str(note), interrupt="never")
    door.answer()
    receipt = workflow.cancel(events.run_id)
    assert receipt and not receipt.wait(0.2)
    release.answer()
    assert receipt.wait(PATIENCE)
    assert note.read_text() == "finished" and receipt.abandoned == []


def test_never_but_forced(door: Door) -> None:
    """A forced cancel kills it all the same."""
    workflow, events = begin(functions.sleeping, door.path, interrupt="never")
    pid, _ = door.answer()
    stop(workflow, events, force=True)
    assert not is_there(pid)


def test_a_step_timeout_kills_and_the_workflow_goes_on(door: Door) -> None:
    """A step whose time is over is an error of that step; its process is dead soon after."""
    warm = Step("warm", executor=functools.partial(call_step, functions.add, (1,)), isolation="process")
    slow = Step(
        "slow",
        executor=functools.partial(call_step, functions.deaf, (door.path,)),
        isolation="process",
        timeout=4.0,  # the process must have begun by then, on a busy machine too
        max_retries=0,
    )
    output = Workflow("w", steps=[warm, slow, Step("next", executor=lambda given: "went on")]).run("go")
    assert output.status is RunStatus.completed and output.content == "went on"
    pid, _ = door.answer()
    assert wait_gone(pid)


def test_a_cancel_before_there_is_a_worker(door: Door) -> None:
    """A call that still waits for a worker is cancelled without one."""

    async def crowd() -> None:
        executor = functools.partial(call_step, functions.sleeping, (door.path,))
        workflow = Workflow("w", steps=[Step("s", executor=executor, isolation="process")])
        runs = [workflow.arun("go", stream=True) for _ in range(MAX_WORKERS + 2)]
        for _ in range(MAX_WORKERS):
            await asyncio.to_thread(door.answer)
        for run in runs:
            assert await workflow.cancel(run.run_id)
        assert {workflow.get_run(run.run_id).status for run in runs} == {RunStatus.cancelled}

    asyncio.run(crowd())


def test_a_run_inside_a_worker_dies_with_it(door: Door) -> None:
    """A run that a step starts in its process isn't in our tree, but it knows our id, and ends with its process."""
    workflow, events = begin(functions.agent_inside, door.path)
    pid, word = door.answer()
    assert word == events.run_id
    stop(workflow, events)
    assert not is_there(pid)


def test_two_hundred_cancels_leave_nothing(door: Door) -> None:
    """After 200 cancels, four at a time, all is gone: no process or zombie, no descriptor, no thread is left over."""
    own = psutil.Process()
    model = ScriptedModel([Call("sleeping", {"door": door.path})], repeat=True)
    agent = Agent(model, tools=[tool(isolation="process")(light_functions.sleeping)])

    def four() -> None:
        runs = [agent.run("go", stream=True) for _ in range(4)]
        pids = [door.answer()[0] for _ in runs]
        for receipt in [agent.cancel(run.run_id) for run in runs]:
            assert receipt.wait(PATIENCE) and receipt.abandoned == [] and receipt.status is RunStatus.cancelled
        assert not any(is_there(pid) for pid in pids)

    def census() -> tuple[int, int]:
        assert pool.empty(PATIENCE)
        assert [child for child in own.children() if "child.py" in " ".join(child.cmdline())] == []
        return threading.active_count(), own.num_fds()

    four()
    before = census()
    for _ in range(50):
        four()
    after = census()
    assert after[0] <= before[0] + 2 and after[1] <= before[1] + 4
