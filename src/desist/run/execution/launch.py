"""Starting a run: awaited, read as a stream, or in the background on the caller's loop.

A run in the background ends by itself, by a cancel, or with its loop. The caller gets the output as it is before the
run begins, or a follower, which can be closed without an effect on the run.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine
from typing import Any

from desist.cancel.reason import Source
from desist.exceptions import SyncBackgroundError
from desist.run.execution.follow import follow_in_process
from desist.run.execution.run import Run
from desist.streams.reader import AsyncReader, SyncReader, wait_settled

__all__ = ["refuse_background", "start_and_wait", "start_run"]


def start_and_wait(run: Run, *, streamed: bool) -> Any:
    """Start on the background loop; return a reader, or wait and return the output. Ctrl-C cancels the run."""
    try:
        run.start()
        return SyncReader(run) if streamed else run.wait()
    except KeyboardInterrupt:
        if not run.settled.is_set:
            run.stop(Source.interrupt, "Ctrl-C")
            wait_settled(run)
        raise


def start_run(
    open_run: Callable[..., Run], *, stream: bool, stream_events: bool | None, background: bool
) -> Coroutine[Any, Any, Any] | AsyncReader[Any]:
    """Open a run and start it on the running loop.

    Parameters:
        open_run: registers the run; called with `stream`, `stream_events` and `replay`, whether events are kept.
        stream: return a reader at once. Otherwise return a coroutine; nothing happens before it is awaited.
        stream_events: emit all events, not only text and the terminal event.
        background: do not wait for the end of the run. Closing the reader does not cancel the run.
    """
    if not stream:
        return _start_background(open_run, stream_events) if background else _awaited(open_run)
    run = open_run(stream=True, stream_events=stream_events, replay=background)
    if not background:
        return AsyncReader(run.start(asyncio.get_running_loop()))
    follower = follow_in_process(run.run_id, None)
    assert follower is not None  # it is registered, or has ended just now
    run.start(asyncio.get_running_loop())
    return AsyncReader(follower)


async def _awaited(open_run: Callable[..., Run]) -> Any:
    run = open_run(stream=False, stream_events=False, replay=False)
    return await run.start(asyncio.get_running_loop()).wait_async()


async def _start_background(open_run: Callable[..., Run], stream_events: bool | None) -> Any:
    run = open_run(stream=True, stream_events=stream_events, replay=True)
    output = copy.copy(run.body.output)
    run.start(asyncio.get_running_loop())
    return output


def refuse_background(where: str, background: bool) -> None:
    """Refuse `background=True` in sync code: the caller has no event loop on which the run could go on.

    Raises:
        SyncBackgroundError: a RuntimeError, as programs of this API expect.
    """
    if background:
        raise SyncBackgroundError(f"{where}(background=True) needs an event loop: use a{where.split('.')[-1]}(...)")
