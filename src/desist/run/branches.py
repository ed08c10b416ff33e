"""Work of one run that goes on side by side: several tool calls of a turn, branches of a step.

Each branch is a task of the run, so a cancel reaches all of them at once, each in its own place. Whoever started
them waits until the last has ended, whatever happens meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from desist.cancel.status import RunStatus
from desist.run.driver import Run

__all__ = ["side_by_side"]

T = TypeVar("T")


async def side_by_side(run: Run, branches: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines at the same time; return what they returned, in their order.

    The first that fails cancels its siblings; its error is raised when all have ended. None starts after a cancel.

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
    tasks = [run.tasks.start(branch) for branch in branches]
    try:
        await _first_end(tasks)
    except asyncio.CancelledError:
        if run.status is RunStatus.running:  # not the run's cancel, which reaches each branch by itself
            _cancel(tasks)
        await _all_ended(tasks)
        raise
    _cancel(tasks)
    await _all_ended(tasks)
    return _results(tasks)


async def _first_end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Wait until one has failed or all have ended."""
    await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)


async def _all_ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Wait for all, though this task be cancelled meanwhile; pass that on in the end."""
    again = False
    while any(not task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            again = True
    for task in tasks:
        if not task.cancelled():
            task.exception()  # seen: asyncio would log it as never retrieved
    if again:
        raise asyncio.CancelledError


def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()


def _results(tasks: Sequence[asyncio.Task[T]]) -> list[T]:
    """Return the results, or raise the first failure that isn't the echo of another's."""
    failures = [error for task in tasks if not task.cancelled() and (error := task.exception()) is not None]
    if failures:
        raise failures[0]
    return [task.result() for task in tasks]
