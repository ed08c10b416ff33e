"""Who waits for a run is woken, and the tasks of a cancelled run hear of it, however many there are at a time."""

from __future__ import annotations

import asyncio
import threading

from desist import Workflow
from desist.cancel.registry import registry
from desist.runtime.latch import Latch
from desist.runtime.run_tasks import RunTasks
from desist.testing import Gate


def test_a_waiter_is_woken_on_its_own_loop() -> None:
    """A latch that is set on the loop that waits for it wakes it."""

    async def main() -> None:
        latch = Latch()
        waiting = asyncio.ensure_future(latch.wait_async())
        await asyncio.sleep(0)
        latch.set()
        async with asyncio.timeout(10):
            await waiting

    asyncio.run(main())


def test_a_waiter_is_woken_from_another_thread() -> None:
    """A latch that is set elsewhere wakes a loop that has nothing else to do."""

    async def main() -> None:
        latch = Latch()
        waiting = asyncio.ensure_future(latch.wait_async())
        await asyncio.sleep(0)
        setter = threading.Thread(target=latch.set)
        setter.start()
        async with asyncio.timeout(10):
            await waiting
        setter.join()

    asyncio.run(main())


def test_a_waiter_on_a_loop_that_was_closed_disturbs_nobody() -> None:
    """Setting a latch doesn't fail in the thread whose loop, closed by now, had waited for it."""
    latch = Latch()

    async def main() -> None:
        waiting = asyncio.ensure_future(latch.wait_async())
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(main())
    latch.set()
    assert latch.is_set


def test_each_of_many_tasks_hears_of_its_own_cancel() -> None:
    """A hundred deliveries from another thread, at once, reach a hundred tasks."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        groups = []
        for _ in range(100):
            tasks = RunTasks()
            tasks.loop = loop
            groups.append((tasks, tasks.start(asyncio.Event().wait())))
        await asyncio.sleep(0)

        def cancel_all() -> None:
            for tasks, task in groups:
                tasks.cancel_until_done(1.0, lambda task=task: not task.done())  # type: ignore[misc]

        canceller = threading.Thread(target=cancel_all)
        canceller.start()
        async with asyncio.timeout(30):
            await asyncio.wait([task for _, task in groups])
        canceller.join()
        assert all(task.cancelled() for _, task in groups)

    asyncio.run(main())


def test_a_cancel_that_comes_before_the_body_has_begun_is_delivered() -> None:
    """Tasks that have a loop and no task yet hear of the cancel once there is one."""

    async def main() -> None:
        tasks = RunTasks()
        tasks.loop = asyncio.get_running_loop()
        tasks.loop.call_soon(lambda: tasks.start(asyncio.Event().wait()))
        tasks.cancel_until_done(1.0, lambda: not any(task.done() for task in tasks._live))
        task = None
        async with asyncio.timeout(10):
            while task is None:
                await asyncio.sleep(0)
                task = next(iter(tasks._live), None)
            await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())


def test_no_timer_of_a_run_outlives_it() -> None:
    """When a cancelled run has settled, the end of its grace is nothing to wake up for."""
    gate = Gate()

    async def wait(_: object) -> None:
        await gate.wait()

    workflow = Workflow("waits", steps=[wait], grace=60)
    reader = workflow.run("go", stream=True)
    gate.wait_reached()
    run = registry.get(reader.run_id)
    receipt = workflow.cancel(reader.run_id)
    assert receipt.wait(30) and list(reader)[-1].is_cancelled
    assert [timer.action for timer in run.limits._timers] == [None]
