"""Blocking work: context, abandoning, the cap, late results. Tools and steps stand on it; here it is used bare."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Callable

import pytest

from desist.calls import thread_pool as worker
from desist.calls.abandoned_threads import abandoned_threads
from desist.calls.thread_pool import run_in_thread
from desist.exceptions import TooManyAbandonedError
from desist.workflow import Step, StepInput, Workflow

COLOUR: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


class Stuck:
    """A step that is stuck in a lock, where Python can't reach it, until the test lets it go."""

    def __init__(self) -> None:
        self.inside, self.free = threading.Event(), threading.Lock()
        self.free.acquire()

    def __call__(self, given: StepInput) -> str:
        self.inside.set()
        self.free.acquire()
        return "too late"

    def cancelled(self) -> tuple[Workflow, str]:
        """Run it, and cancel it when it is stuck."""
        workflow = Workflow(steps=[Step("stuck", executor=self)])
        reader = workflow.run("go", stream=True)
        self.inside.wait(10)
        assert workflow.cancel(reader.run_id, grace=0.02).wait(10)
        return workflow, reader.run_id


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for something that another thread does, at most ten seconds."""
    until = time.monotonic() + 10
    while not true():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.001)


def test_it_returns_and_raises_what_the_call_does() -> None:
    """In another thread, with the caller's context variables, whose changes stay there."""

    def call() -> tuple[str, bool]:
        colour = COLOUR.get()
        COLOUR.set("changed")
        return colour, threading.current_thread() is threading.main_thread()

    def fail() -> None:
        raise KeyError("k")

    async def main() -> None:
        COLOUR.set("blue")
        assert await run_in_thread(call, name="call") == ("blue", False)
        assert COLOUR.get() == "blue"
        with pytest.raises(KeyError):
            await run_in_thread(fail, name="fail")

    asyncio.run(main())


def test_threads_are_used_again() -> None:
    """A hundred calls one after the other need no second thread."""

    async def main() -> set[int]:
        return {await run_in_thread(threading.get_ident, name="ident") for _ in range(100)}

    assert len(asyncio.run(main())) == 1


def test_what_cannot_be_stopped_is_abandoned_and_its_result_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """It is named in record and receipt with where it is stuck, counted while it lives, and its end is logged."""
    stuck = Stuck()
    with caplog.at_level(logging.INFO, "desist"):
        workflow, run_id = stuck.cancelled()
        output = workflow.get_run(run_id)
        assert output is not None and output.cancel is not None
        (item,) = output.cancel.abandoned
        assert (item.name, item.kind) == ("Stuck", "thread") or item.kind == "thread"
        assert "self.free.acquire()" in (item.blocked_in or "")
        assert [work.name for work in abandoned_threads()] == [item.name]
        stuck.free.release()
        wait_until(lambda: not abandoned_threads())
        wait_until(lambda: "its result is dropped" in caplog.text)
    assert output.status == "CANCELLED" and "too late" not in str(output.content)


def test_too_many_abandoned_calls_refuse_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names what occupies the threads and what to do; once that has ended, work goes on."""
    monkeypatch.setattr(worker, "MAX_ABANDONED", 2)
    both = [Stuck(), Stuck()]
    for stuck in both:
        stuck.cancelled()

    async def call() -> str:
        return await run_in_thread(lambda: "done", name="the third")

    with pytest.raises(TooManyAbandonedError, match=r"'the third' was not started: 2 abandoned calls"):
        asyncio.run(call())
    for stuck in both:
        stuck.free.release()
    wait_until(lambda: not abandoned_threads())
    assert asyncio.run(call()) == "done"


def test_a_call_that_ends_as_it_is_abandoned_is_not_counted_for_ever() -> None:
    """Five hundred times, a call's own timeout races with its end."""

    async def main() -> None:
        for number in range(500):
            task = asyncio.ensure_future(run_in_thread(lambda: None, name="quick"))
            for _ in range(number % 4):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    wait_until(lambda: not abandoned_threads())
