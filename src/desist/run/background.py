"""Starting a run in the background: the caller gets its output as it stands before it begins, or a stream to follow.

Called by agents and workflows, on the caller's loop. Nobody waits for such a run; it ends by itself, by a cancel, or
with its loop.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Coroutine
from typing import Any

from desist.cancel.reader import AsyncReader
from desist.exceptions import UnsupportedError
from desist.run.driver import Run
from desist.run.following import follow_known

__all__ = ["in_background", "refuse_background"]


def in_background(run: Run, *, stream: bool) -> Coroutine[Any, Any, Any] | AsyncReader[Any]:
    """Start a run that keeps its events; return its output as it stands now, `PENDING`, or a stream of its events.

    Parameters:
        run: opened with `kept=True`, not yet started.
        stream: return a reader, at once and without await. Leaving it doesn't stop the run.
    """
    loop = asyncio.get_running_loop()
    if not stream:
        return _pending(run, loop)
    follower = follow_known(run.run_id, None)
    assert follower is not None  # it is registered, or has ended just now
    run.start(loop)
    return AsyncReader(follower)


async def _pending(run: Run, loop: asyncio.AbstractEventLoop) -> Any:
    output = copy.copy(run.body.output)
    run.start(loop)
    return output


class SyncBackgroundError(UnsupportedError, RuntimeError):
    """`background=True` in sync code: there is no loop of the caller's that would go on with the run."""


def refuse_background(where: str) -> None:
    """Refuse to run in the background from sync code.

    Raises:
        SyncBackgroundError: a RuntimeError, as programs of this API expect.
    """
    raise SyncBackgroundError(f"{where}(background=True) needs an event loop: use arun(background=True)")
