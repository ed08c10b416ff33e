"""Work of one run that goes on side by side: several tool calls of a turn, branches of a step.

Each branch is a task of the run, so a cancel reaches all of them at once, each in its own place. Whoever started
them waits until the last has ended, whatever happens meanwhile.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from desist.cancel.reason import CancelReason, Source
from desist.cancel.status import RunStatus
from desist.run.execution.branch import Branch, current_branch, enter_branch
from desist.run.execution.cancel_decision import cancel_many
from desist.run.execution.run import Run
from desist.run.storage.values import CancelRequest

__all__ = ["run_parallel"]

T = TypeVar("T")

#: Seconds between two cancellations of a branch that goes on, at most.
SLOWEST = 1.0


async def run_parallel(run: Run, branches: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines at the same time; return what they returned, in their order.

    The first that fails cancels its siblings, and the runs that they have started, with source `sibling`; its error is
    raised when all have ended. None starts after a cancel.

    Raises:
        RunCancelled: the run takes nothing new.
    """
    try:
        run.check()
    except BaseException:
        for branch in branches:
            branch.close()
        raise
    if len(branches) == 1:
        return [await branches[0]]
    places = [Branch(current_branch()) for _ in branches]
    tasks = {_start(run, work, place): place for work, place in zip(branches, places, strict=True)}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    except asyncio.CancelledError:
        # The run's own cancel reaches each branch by itself.
        await (_stopped(tasks) if run.status is RunStatus.running else _ended(tasks))
        raise
    failed = next((error for task in tasks if (error := _error(task)) is not None), None)
    if failed is not None:
        _stop_runs(run, [place for task, place in tasks.items() if not task.done()], failed)
        if await _stopped(tasks):
            raise asyncio.CancelledError
        raise failed
    return [task.result() for task in tasks]


def _start(run: Run, work: Coroutine[Any, Any, T], branch: Branch) -> asyncio.Task[T]:
    context = contextvars.copy_context()
    context.run(enter_branch, branch)
    return run.tasks.start(work, context)


def _error(task: asyncio.Task[Any]) -> BaseException | None:
    """Return what ended a task that has ended in an error; a cancellation that nobody asked for is one."""
    if not task.done():
        return None
    return asyncio.CancelledError() if task.cancelled() else task.exception()


def _stop_runs(run: Run, stopped: Iterable[Branch], failed: BaseException) -> None:
    """Let nothing new start in these branches, and cancel the runs that they have started."""
    reason = CancelReason(source=Source.sibling, text=f"another branch failed: {failed}", by="desist")
    with run.lock:
        children: list[Run] = [scope.owner for scope in run.scope.children.values()]
    doomed = set(stopped)
    for branch in doomed:
        branch.stopped = True
    theirs = [run for run in children if run.branch is not None and not doomed.isdisjoint(run.branch.and_around())]
    cancel_many(theirs, CancelRequest(reason=reason, reach="own"))


async def _stopped(tasks: Iterable[asyncio.Task[Any]]) -> bool:
    """Cancel tasks, again with back-off those that swallow it, until all have ended. As `_ended`."""
    pause, again = 0.05, False
    while live := [task for task in tasks if not task.done()]:
        for task in live:
            task.cancel()
        again = await _waited(live, pause) or again
        pause = min(2 * pause, SLOWEST)
    return await _ended(tasks) or again


async def _ended(tasks: Iterable[asyncio.Task[Any]]) -> bool:
    """Wait until all have ended, though this task be cancelled meanwhile; return whether it was."""
    again = False
    while live := [task for task in tasks if not task.done()]:
        again = await _waited(live) or again
    for task in tasks:
        if not task.cancelled():
            task.exception()  # seen: asyncio would log it as never retrieved
    return again


async def _waited(tasks: Iterable[asyncio.Task[Any]], timeout: float | None = None) -> bool:
    try:
        await asyncio.wait(tasks, timeout=timeout)
    except asyncio.CancelledError:
        return True
    return False
