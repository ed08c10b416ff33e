"""Starting a run for async code: awaited, read as a stream, or in the background.

Called by agents and workflows, on the caller's loop. For a run in the background nobody waits; it ends by itself, by a
cancel, or with its loop. The caller gets its output as it stands before it begins, or a stream that may be left.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine
from typing import Any

from desist.exceptions import SyncBackgroundError
from desist.run.execution.follow import follow_in_process
from desist.run.execution.run import Run
from desist.runtime.background_loop import background_loop
from desist.runtime.timer_thread import reaper
from desist.streams.reader import AsyncReader

__all__ = ["refuse_background", "run_sync", "start_run"]


def run_sync(open_run: Callable[..., Run], *, stream: bool, stream_events: bool | None) -> Any:
    """Open a run and start it on the background loop; return a reader, or wait and return the output.

    Raises:
        RuntimeError, OSError: the threads that a run needs can't start. The run was not opened: a cancel that came for
            its id is kept.
        DesistError: the interpreter is ending.
    """
    background_loop.loop()
    reaper.start()
    return open_run(stream=stream, stream_events=stream_events).start_and_wait(streamed=stream)


def start_run(
    open_run: Callable[..., Run], *, stream: bool, stream_events: bool | None, background: bool
) -> Coroutine[Any, Any, Any] | AsyncReader[Any]:
    """Open a run and start it on the running loop.

    Parameters:
        open_run: registers the run; it is given `stream`, `stream_events` and `kept`, whether events are kept.
        stream: return a reader, at once and without await. Else a coroutine: nothing happens before it is awaited.
        stream_events: show everything, not only text and the end.
        background: don't wait for the end. A reader that is left then doesn't stop the run.
    """
    if not stream:
        return _start_background(open_run, stream_events) if background else _awaited(open_run)
    loop = _running_loop()
    run = open_run(stream=True, stream_events=stream_events, replay=background)
    if not background:
        return run.start(loop).async_reader()
    follower = follow_in_process(run.run_id, None)
    assert follower is not None  # it is registered, or has ended just now
    run.start(loop)
    return AsyncReader(follower)


def _running_loop() -> asyncio.AbstractEventLoop:
    """Return the running loop, with all that a run needs besides: before the run is opened."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError("no running event loop: call arun() in async code, or run() elsewhere") from None
    reaper.start()
    return loop


async def _awaited(open_run: Callable[..., Run]) -> Any:
    loop = _running_loop()
    run = open_run(stream=False, stream_events=False, replay=False)
    return await run.start(loop).wait_async()


async def _start_background(open_run: Callable[..., Run], stream_events: bool | None) -> Any:
    loop = _running_loop()
    run = open_run(stream=True, stream_events=stream_events, replay=True)
    output = copy.copy(run.body.output)
    run.start(loop)
    return output


def refuse_background(where: str, background: bool) -> None:
    """Refuse to run in the background from sync code: there is no loop of the caller's that would go on with it.

    Raises:
        SyncBackgroundError: a RuntimeError, as programs of this API expect.
    """
    if background:
        raise SyncBackgroundError(f"{where}(background=True) needs an event loop: use a{where.split('.')[-1]}(...)")
