"""Async user code: one that blocks its loop, swallows its cancellation, cleans up with awaits, or is shielded."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from calls_scenario import Scene
from hanging_server import PATIENCE

from desist import Agent, Step, Workflow
from desist.calls import thread_execution
from desist.cancel import RunCancelled, RunStatus, on_cancel, shield, sleep
from desist.runtime.timer_thread import timers
from desist.testing import Call, Gate, ScriptedModel


class AsyncScene(Scene):
    """The same with async work."""

    def _step(self, place: Any, interrupt: Any) -> Step:
        async def work() -> str:
            return await self._ado()

        async def step(_: Any) -> str:
            return await self._ado()

        if place == "step":
            return Step("work", executor=step, max_retries=0)
        agent = Agent(ScriptedModel([Call("work"), "never said"]), name="Worker", tools=[work])
        return Step("work", agent=agent, max_retries=0)

    async def _ado(self) -> str:
        self.entered.set()
        try:
            await self._work()
        except BaseException as error:
            self.raised = error
            raise
        finally:
            self.left.set()
        return "done"


everywhere = pytest.mark.parametrize(
    ("place", "face"), [("step", "run"), ("tool", "run"), ("step", "arun"), ("tool", "arun")]
)
AsyncWork = Callable[[], Awaitable[Any]]


def other_run(**how: Any) -> Any:
    async def fine(_: Any) -> str:
        await asyncio.sleep(0)
        return "fine"

    return Workflow("Other", steps=[fine]).run("go", **how)


@pytest.mark.parametrize("place", ["step", "tool"])
def test_blocking_the_loop(place: Any) -> None:
    """A11: async code that blocks its loop is named with the line that blocks; other runs go on meanwhile."""
    go_on = threading.Event()

    async def block() -> None:
        go_on.wait(PATIENCE)  # blocks here

    scene = AsyncScene(block, place=place, grace=0.05).start()
    assert other_run().content == "fine"
    receipt = scene.stop()
    [left] = receipt.abandoned
    assert left.kind == "task" and left.name
    assert "blocks here" in (left.blocked_in or "") or "go_on.wait(PATIENCE)" in (left.blocked_in or "")
    assert other_run().content == "fine"
    go_on.set()
    assert scene.left.wait(PATIENCE)
    assert all(step.content != "done" for step in scene.output.step_results)


def test_many_that_block() -> None:
    """A11: ten runs that block their loops at once hold nobody: each gets out of the others' way."""
    go_on = threading.Event()

    async def block() -> None:
        go_on.wait(PATIENCE)

    scenes = [AsyncScene(block, grace=0.01).start() for _ in range(10)]
    assert other_run().content == "fine"
    for scene in scenes:
        assert len(scene.stop().abandoned) == 1
    go_on.set()
    assert all(scene.left.wait(PATIENCE) for scene in scenes)


def test_the_runs_on_a_loop_that_was_blocked_go_on() -> None:
    """A11: what shares a loop with code that blocks it for a while is delayed by that, and nothing else."""
    go_on, waiting = threading.Event(), Gate()

    async def wait() -> None:
        await waiting.wait()

    async def block() -> None:
        go_on.wait(PATIENCE)

    first = AsyncScene(wait).start()
    second = AsyncScene(block, grace=0.01).start()
    assert len(second.stop().abandoned) == 1
    go_on.set()
    waiting.open()
    assert first.over.wait(PATIENCE) and first.output.status is RunStatus.completed


@everywhere
def test_swallowing(place: Any, face: Any) -> None:
    """Code that loses its cancellation gets it again at once, not at three quarters of the grace."""
    swallowed: list[float] = []

    async def swallow() -> None:
        while len(swallowed) < 3:
            try:
                await asyncio.sleep(PATIENCE)
            except asyncio.CancelledError:
                swallowed.append(asyncio.get_running_loop().time())

    scene = AsyncScene(swallow, place=place, face=face, grace=10 * PATIENCE).start()
    receipt = scene.cancel()
    assert receipt.wait(PATIENCE) and scene.left.wait(PATIENCE)
    assert len(swallowed) == 3 and receipt.abandoned == []
    assert scene.over.wait(PATIENCE) and scene.output.status is RunStatus.cancelled and scene.never == []


@everywhere
def test_a_handler_is_not_cancelled_again(place: Any, face: Any) -> None:
    """A cleanup in `except`, in `finally` or in `__aexit__` isn't taken for code that has lost its cancellation."""
    done: list[str] = []
    go_on = threading.Event()

    @contextlib.asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await pause("exit")

    async def pause(name: str) -> None:
        while not go_on.is_set():
            await asyncio.sleep(0.001)
        done.append(name)

    async def clean_up() -> None:
        async with resource():
            try:
                try:
                    await asyncio.gather(asyncio.sleep(PATIENCE), asyncio.sleep(PATIENCE))
                except asyncio.CancelledError:
                    await pause("except")
                    raise
            finally:
                await pause("finally")

    scene = AsyncScene(clean_up, place=place, face=face, grace=10 * PATIENCE).start()
    receipt = scene.cancel()
    assert not receipt.wait(0.1)  # more than a hundred looks for lost cancellations
    go_on.set()
    assert receipt.wait(PATIENCE) and receipt.abandoned == [] and done == ["except", "finally", "exit"]


@everywhere
def test_cleanup_with_awaits(place: Any, face: Any) -> None:
    """An async `finally` awaits as it likes within the grace: nothing disturbs it, and the run waits for it."""
    log: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            for number in range(3):
                await asyncio.sleep(0.001)
                log.append(f"cleaned {number}")

    scene = AsyncScene(work, place=place, face=face).start()
    assert scene.stop().abandoned == []
    assert log == ["cleaned 0", "cleaned 1", "cleaned 2"]
    assert isinstance(scene.raised, asyncio.CancelledError)


@everywhere
def test_async_shield(place: Any, face: Any) -> None:
    """C5: inside `with shield():` awaits go through; the cancel arrives at the first await after it."""
    log: list[str] = []
    paying = Gate()

    async def pay() -> None:
        with shield(budget=PATIENCE):
            await paying.wait()
            log.append("paid")
        await asyncio.sleep(0)
        log.append("never")

    scene = AsyncScene(pay, place=place, face=face, grace=0.0).start()
    paying.wait_reached()
    receipt = scene.cancel()
    assert receipt.status is RunStatus.cancelling and not receipt.wait(0.05)
    paying.open()
    scene.settle(receipt)
    assert log == ["paid"] and receipt.abandoned == []


@pytest.mark.parametrize("place", ["step", "tool"])
@pytest.mark.parametrize("face", ["run", "arun"])
def test_sync_shield(place: Any, face: Any) -> None:
    """C5: a sync block under a shield, Python code and waits, isn't torn; RunCancelled is raised as it is left."""
    log: list[str] = []
    paying = Gate()

    def pay() -> None:
        with shield(budget=PATIENCE):
            paying.wait_blocking(PATIENCE)
            sum(range(100_000))
            sleep(0.001)
            log.append("paid")
        log.append("never")

    scene = Scene(pay, place=place, face=face, grace=0.0).start()
    paying.wait_reached()
    receipt = scene.cancel()
    assert receipt.status is RunStatus.cancelling and not receipt.wait(0.05)
    paying.open()
    scene.settle(receipt)
    assert log == ["paid"] and receipt.abandoned == []


def test_a_shield_counts_from_the_decision_on() -> None:
    """C5: the grace is over before the canceller has come to tell the work: what is under a shield isn't given up."""
    paying = Gate()

    def after_the_grace() -> None:  # in the canceller's thread
        told = threading.Event()
        timers.call_at(time.monotonic() + 0.1, told.set)
        assert told.wait(PATIENCE)

    def pay() -> None:
        on_cancel(after_the_grace)  # outside: under the shield no cancel is heard
        with shield(budget=PATIENCE):
            paying.wait_blocking(PATIENCE)

    scene = Scene(pay, grace=0.0).start()
    paying.wait_reached()
    receipt = scene.cancel()
    assert receipt.status is RunStatus.cancelling
    paying.open()
    scene.settle(receipt)
    assert receipt.abandoned == []


def test_nested_shields(monkeypatch: pytest.MonkeyPatch) -> None:
    """C5: the cancel arrives when the outermost shield is left."""
    monkeypatch.setattr(thread_execution, "UNWIND_TIMEOUT", PATIENCE)
    log: list[str] = []
    inside = Gate()

    def work() -> None:
        with shield(budget=PATIENCE):
            with shield():
                inside.wait_blocking(PATIENCE)
            log.append("between")
        log.append("never")

    scene = Scene(work, grace=0.0).start()
    inside.wait_reached()
    receipt = scene.cancel()
    inside.open()
    scene.settle(receipt)
    assert log == ["between"] and receipt.abandoned == []


def test_leaving_a_shield_after_the_grace_leaves_time_to_unwind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cancel arrives when the shield is left: a poll between that and the end of the call abandons nothing."""
    monkeypatch.setattr(thread_execution, "UNWIND_TIMEOUT", PATIENCE)  # the test must not depend on how fast it is
    inside, polled = Gate(), threading.Event()

    def work() -> None:
        try:
            with shield(budget=PATIENCE):
                inside.wait_blocking(PATIENCE)
        finally:
            scene.cancel(grace=0.0)  # the timer thread polls at once
            timers.call_at(time.monotonic(), polled.set)
            assert polled.wait(PATIENCE)

    scene = Scene(work, grace=0.0, interrupt="cooperative").start()
    inside.wait_reached()
    receipt = scene.cancel()
    inside.open()
    scene.settle(receipt)
    assert polled.is_set() and receipt.abandoned == []


def test_shields_entered_again_do_not_keep_a_call_from_being_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that swallows its cancel and enters shield after shield has no more than the budget of the first."""
    monkeypatch.setattr(thread_execution, "UNWIND_TIMEOUT", 2 * PATIENCE)
    inside, free = Gate(), threading.Event()

    def work() -> None:
        while not free.is_set():
            with contextlib.suppress(RunCancelled), shield(budget=0.2):
                inside.wait_blocking(PATIENCE)

    scene = Scene(work, grace=0.0, interrupt="cooperative").start()
    inside.wait_reached()
    receipt = scene.cancel()
    inside.open()
    try:
        scene.settle(receipt)
    finally:
        free.set()
    assert [item.kind for item in receipt.abandoned] == ["thread"]
    assert scene.left.wait(PATIENCE)


def test_a_forced_cancel_goes_through_shields() -> None:
    """A forced cancel doesn't wait for a shield: sync code in it is interrupted, its run settles."""
    inside = threading.Event()

    def work() -> None:
        with shield(budget=PATIENCE):
            inside.set()
            while True:
                sum(range(100))

    scene = Scene(work).start()
    assert inside.wait(PATIENCE)
    receipt = scene.cancel()
    assert not receipt.wait(0.05)
    scene.cancel(force=True)
    scene.settle(receipt)
    assert scene.left.wait(PATIENCE)
