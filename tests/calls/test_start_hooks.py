"""Which threads belong to a call: those that its code starts, not those that libraries share between calls."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest

from desist import Step, Workflow
from desist.calls.started.started_work import current_started_work
from desist.testing import Gate


def members_after(start: Callable[[], Any]) -> list[str]:
    """Return the kinds and names of what a step has started by calling `start`, while that lives."""
    found: list[str] = []

    def work(_: Any) -> None:
        kept = start()
        started = current_started_work()
        assert started is not None
        found.extend(f"{member.kind} {member.name}" for member in started.live_members())
        release.set()
        del kept

    release.clear()
    Workflow("w", steps=[Step("s", executor=work, max_retries=0)]).run("go")
    return found


release = threading.Event()


def named(name: str) -> threading.Thread:
    thread = threading.Thread(target=release.wait, args=(30,), name=name)
    thread.start()
    return thread


class Overridden(threading.Thread):
    def start(self) -> None:
        super().start()


def test_a_thread_is_owned() -> None:
    """A thread that the code starts itself belongs to the call."""
    assert members_after(lambda: named("mine")) == ["thread mine"]


def test_an_overridden_start_is_seen_through() -> None:
    """A class that overrides `start` starts threads of the code that calls it."""

    def start() -> threading.Thread:
        thread = Overridden(target=release.wait, args=(30,), name="over")
        thread.start()
        return thread

    assert members_after(start) == ["thread over"]


def test_a_wrapped_start_is_seen_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another library's wrapper around `Thread.start` doesn't make the threads of a pool those of the call."""
    members_after(lambda: None)  # the hooks are there
    hooked = threading.Thread.start

    def start(self: threading.Thread) -> None:
        hooked(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    with ThreadPoolExecutor(1) as pool:
        assert members_after(lambda: pool.submit(release.wait, 30)) == ["thread Event.wait"]  # the job alone
        assert members_after(lambda: named("mine")) == ["thread mine"]


def test_the_threads_of_a_pool_are_not_owned() -> None:
    """A pool's thread that a call happens to start serves other calls later: only the job is the call's."""
    with ThreadPoolExecutor(1) as pool:
        assert members_after(lambda: pool.submit(release.wait, 30)) == ["thread Event.wait"]


def test_the_workers_of_a_thread_pool_are_owned() -> None:
    """The workers of `multiprocessing.pool.ThreadPool` run code of the call; its helper threads end with the pool."""
    pools: list[ThreadPool] = []

    def start() -> None:
        pools.append(ThreadPool(2))

    assert [one.split()[0] for one in members_after(start)] == ["thread", "thread"]
    pools[0].terminate()


def test_a_cleanup_may_start_threads_jobs_and_processes() -> None:
    """What a `finally` block starts after the cancel runs, and belongs to the call like everything else."""
    done: list[Any] = []
    gate, other = Gate(), Gate()

    def work(_: Any) -> None:
        try:
            gate.wait_blocking(30)
        finally:
            thread = threading.Thread(target=done.append, args=("thread",))
            thread.start()
            thread.join()
            done.append(subprocess.run(["echo", "process"], capture_output=True, text=True, check=True).stdout.strip())
            with ThreadPoolExecutor(1) as pool:
                pool.submit(done.append, "job").result()

    async def work_async(_: Any) -> None:
        try:
            await other.wait()
        finally:
            await asyncio.to_thread(done.append, "to_thread")
            process = await asyncio.create_subprocess_exec("true")
            done.append(await process.wait())

    for executor, reached in ((work, gate), (work_async, other)):
        workflow = Workflow("w", steps=[Step("s", executor=executor, max_retries=0)], grace=60)
        events = workflow.run("go", stream=True)
        reached.wait_reached()
        receipt = workflow.cancel(events.run_id)
        assert receipt.wait(60) and receipt.abandoned == []
    assert done == ["thread", "process", "job", "to_thread", 0]


def test_a_cleanup_may_be_faster_than_the_canceller() -> None:
    """A job that a `finally` block has started while the canceller was between two actions isn't interrupted either."""
    gate, in_cleanup, canceller_is_done, done = Gate(), threading.Event(), threading.Event(), list[str]()

    class SlowLoop(asyncio.SelectorEventLoop):
        """The thread that cancels is slow: it goes on when the cleanup runs."""

        canceller = 0

        def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> asyncio.Handle:
            handle = super().call_soon_threadsafe(*args, **kwargs)
            if threading.get_ident() == self.canceller:
                self.canceller = 0
                assert in_cleanup.wait(30)
            return handle

    def job() -> None:
        in_cleanup.set()
        assert canceller_is_done.wait(30)
        done.append("job")

    async def work(_: Any) -> None:
        try:
            await gate.wait()
        finally:
            await asyncio.to_thread(job)

    def cancel() -> None:
        gate.wait_reached()
        loop.canceller = threading.get_ident()
        workflow.cancel("r")
        canceller_is_done.set()

    workflow = Workflow("w", steps=[Step("s", executor=work, max_retries=0)], grace=60)
    loop = SlowLoop()
    with ThreadPoolExecutor(1) as pool:
        cancelled = pool.submit(cancel)
        output = loop.run_until_complete(workflow.arun("go", run_id="r"))
        cancelled.result()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert (output.status.value, output.cancel.abandoned, done) == ("CANCELLED", [], ["job"])
