"""`shield()`: a block that a cancel doesn't interrupt. The cancel is delivered when the block is left.

The decision isn't delayed: the run is `CANCELLING` at once and starts nothing new. Only the interruption is deferred.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from desist.cancel.context import current_call
from desist.cancel.token import CancelToken, current_token, use_token
from desist.runtime.run_tasks import current_tasks

__all__ = ["shield"]


@contextlib.contextmanager
def shield(budget: float | None = None) -> Iterator[None]:
    """Keep a cancel from interrupting the block; deliver it when the block is left.

    Works in async code (the cancel arrives at the next `await` after the block) and in sync tools and steps
    (`RunCancelled` is raised as the block is left). Outside of a run it does nothing.

    Parameters:
        budget: seconds that the block may take after a cancel before it counts as abandoned. None: the grace of the
            cancel. A forced cancel ignores the shield.
    """
    # The block gets a token of its own, which is never cancelled: nothing in it may raise `RunCancelled`.
    call = current_call.call
    if call is None:
        with _shield_task(budget):
            yield
        return
    outer = current_token()
    call.enter_shield(budget)
    try:
        with use_token(CancelToken()):
            yield
    finally:
        call.leave_shield()
    # Last, and not in `finally`: an error of the block isn't replaced.
    outer.check()


@contextlib.contextmanager
def _shield_task(budget: float | None) -> Iterator[None]:
    tasks = current_tasks()
    if tasks is None:
        yield
        return
    task = asyncio.current_task()
    # `leave_shield` cancels the task if a cancel was deferred: asyncio delivers it at the next `await`.
    tasks.enter_shield(task, budget)
    try:
        with use_token(CancelToken()):
            yield
    finally:
        tasks.leave_shield(task)
