"""Starting a run: awaited, read as a stream, or in the background on the caller's loop.

A run in the background ends by itself, by a cancel, or with its loop. The caller gets the output as it is before the
run begins, or a follower, which can be closed without an effect on the run.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine
from typing import Any

from desist.cancel.registry import registry
from desist.cancel.signals import source_of
from desist.exceptions import SyncBackgroundError
from desist.run.execution.follow import follow_in_process
from desist.run.execution.run import Run, collect_opened
from desist.runtime.background_loop import background_loop
from desist.runtime.timer_thread import timers
from desist.streams.reader import AsyncReader, SyncReader, describe, stop_and_wait

__all__ = ["open_and_wait", "refuse_background", "start_run"]


def open_and_wait(open_run: Callable[[], Run], *, streamed: bool) -> Any:
    """Open a run and start it on the background loop; return a reader, or wait and return the output.

    An exception from outside (Ctrl-C, one of a signal handler), whenever it comes, cancels the run, and is raised when
    the run has settled.

    Raises:
        RuntimeError, OSError: the threads that a run needs can't start. The run was not opened: a cancel that came for
            its id is kept.
        DesistError: the interpreter is ending.
    """
    background_loop.loop()
    timers.start()
    opened: list[Run] = []
    try:
        with collect_opened(opened):
            run = open_run()
        run.start(wait=streamed)
        return SyncReader(run) if streamed else run.wait()
    except BaseException as error:
        for run in opened:
            if registry.get(run.run_id) is run:
                stop_and_wait(run, source_of(error), describe(error))
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
    loop = _running_loop()
    run = open_run(stream=True, stream_events=stream_events, replay=background)
    if not background:
        return AsyncReader(run.start(loop))
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
    timers.start()
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
    """Refuse `background=True` in sync code: the caller has no event loop on which the run could go on.

    Raises:
        SyncBackgroundError: a RuntimeError, as programs of this API expect.
    """
    if background:
        raise SyncBackgroundError(f"{where}(background=True) needs an event loop: use a{where.split('.')[-1]}(...)")
