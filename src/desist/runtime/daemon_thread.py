"""Blocking work beside the loop: name look-ups, slow imports, certificates, reads from a disk. For every floor above.

A daemon thread for each call and not the loop's executor: abandoned work then holds neither the loop's end nor the
interpreter's. Must know nothing of runs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["to_daemon_thread"]

T = TypeVar("T")


async def to_daemon_thread(work: Callable[[], T], name: str) -> T:
    """Return `work()`, run in a daemon thread called `name`; raise what it raises.

    A cancel leaves at once. The thread goes on to its end and nobody hears of it.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Any] = loop.create_future()

    def body() -> None:
        try:
            answer, value = result.set_result, work()
        except BaseException as error:
            answer, value = result.set_exception, error  # type: ignore[assignment]
        try:
            loop.call_soon_threadsafe(_settle, result, answer, value)
        except RuntimeError:
            pass  # the loop was closed meanwhile: nobody waits

    threading.Thread(target=body, name=name, daemon=True).start()
    return await result  # type: ignore[no-any-return]


def _settle(result: asyncio.Future[Any], answer: Callable[[Any], None], value: Any) -> None:
    if not result.done():
        answer(value)
