"""Parallel work of one run: the tool calls of a turn, the branches of a step.

Each branch is a task of the run, so a cancel interrupts all branches at once. `run_parallel` always waits until the
last branch has ended.
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

#: The maximum of seconds between two cancellations of a branch that does not end.
SLOWEST = 1.0


async def run_parallel(run: Run, coroutines: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines in parallel; return their results in order.

    The first branch that fails cancels its siblings, and the runs that they have started, with source `sibling`. Its
    error is raised when all branches have ended.

    Raises:
        RunCancelled: the run accepts no new work; no branch has started.
    """
    try:
        run.check()
    except BaseException:
        for work in coroutines:
            work.close()
        raise
    if len(coroutines) == 1:
        return [await coroutines[0]]
    tasks: dict[asyncio.Task[T], Branch] = {}
    for work in coroutines:
        branch = Branch(current_branch())
        tasks[_start(run, work, branch)] = branch
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    except asyncio.CancelledError:
        # A cancel of the run interrupts each branch; a cancellation of this task alone does not.
        await (_cancel_and_wait(tasks) if run.status is RunStatus.running else _wait_for_all(tasks))
        raise
    failed = next((error for task in tasks if (error := _error(task)) is not None), None)
    if failed is not None:
        _stop_runs(run, [branch for task, branch in tasks.items() if not task.done()], failed)
        if await _cancel_and_wait(tasks):
            raise asyncio.CancelledError
        raise failed
    return [task.result() for task in tasks]


def _start(run: Run, work: Coroutine[Any, Any, T], branch: Branch) -> asyncio.Task[T]:
    context = contextvars.copy_context()
    context.run(enter_branch, branch)
    return run.tasks.start(work, context)


def _error(task: asyncio.Task[Any]) -> BaseException | None:
    """Return the error of a task, or None. A cancelled task counts as failed: the run has cancelled no branch yet."""
    if not task.done():
        return None
    return asyncio.CancelledError() if task.cancelled() else task.exception()


def _stop_runs(run: Run, stopped: Iterable[Branch], failed: BaseException) -> None:
    """Refuse new work in these branches, and cancel the runs that they have started."""
    reason = CancelReason(source=Source.sibling, text=f"another branch failed: {failed}", by="desist")
    with run.lock:
        children = [scope.owner for scope in run.scope.children.values()]
    branches = set(stopped)
    for branch in branches:
        branch.stopped = True
    inside = [run for run in children if run.branch is not None and not branches.isdisjoint(run.branch.with_outer())]
    cancel_many(inside, CancelRequest(reason=reason, reach="own"))


async def _cancel_and_wait(tasks: Iterable[asyncio.Task[Any]]) -> bool:
    """Cancel tasks until all have ended, with growing pauses, because a task may swallow a cancel.

    Return whether this task was cancelled meanwhile.
    """
    pause, cancelled = 0.05, False
    while live := [task for task in tasks if not task.done()]:
        for task in live:
            task.cancel()
        cancelled = await _wait(live, pause) or cancelled
        pause = min(2 * pause, SLOWEST)
    return await _wait_for_all(tasks) or cancelled


async def _wait_for_all(tasks: Iterable[asyncio.Task[Any]]) -> bool:
    """Wait until all tasks have ended, also if this task is cancelled meanwhile; return whether it was."""
    cancelled = False
    while live := [task for task in tasks if not task.done()]:
        cancelled = await _wait(live) or cancelled
    for task in tasks:
        if not task.cancelled():
            task.exception()  # retrieved: asyncio would log it otherwise
    return cancelled


async def _wait(tasks: Iterable[asyncio.Task[Any]], timeout: float | None = None) -> bool:
    """Wait once; return whether this task was cancelled."""
    try:
        await asyncio.wait(tasks, timeout=timeout)
    except asyncio.CancelledError:
        return True
    return False
