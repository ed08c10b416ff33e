"""Blocking work of the library itself beside an event loop: name look-ups, slow imports, certificates, disk reads.

Each call has a daemon thread of its own instead of a thread of the loop's executor: a call that is abandoned then
delays neither the end of the loop nor the exit of the interpreter.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["start_daemon_thread", "to_daemon_thread"]

T = TypeVar("T")


def start_daemon_thread(work: Callable[..., object], name: str, *args: Any) -> threading.Thread:
    """Start a daemon thread and return it.

    Assign it only then: an attribute with a thread that never started would look as if the thread ran.

    Raises:
        RuntimeError: the system has no more threads, or the interpreter is ending.
    """
    thread = threading.Thread(target=work, args=args, name=name, daemon=True)
    thread.start()
    return thread


async def to_daemon_thread(work: Callable[[], T], name: str) -> T:
    """Call `work()` in a daemon thread called `name`; return its result or raise its exception.

    A task that is cancelled leaves at once; the thread runs to its end and its result is dropped.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Any] = loop.create_future()

    def body() -> None:
        try:
            resolve, value = result.set_result, work()
        except BaseException as error:
            resolve, value = result.set_exception, error  # type: ignore[assignment]
        try:
            loop.call_soon_threadsafe(_resolve, result, resolve, value)
        except RuntimeError:
            pass  # the loop was closed meanwhile: no task awaits the result

    start_daemon_thread(body, name)
    return await result  # type: ignore[no-any-return]


def _resolve(result: asyncio.Future[Any], resolve: Callable[[Any], None], value: Any) -> None:
    """Resolve the future on its loop, unless the awaiting task was cancelled."""
    if not result.done():
        resolve(value)
