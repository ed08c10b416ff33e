"""Wake an event loop of the main thread now and then, so that handlers of signals run.

A signal that arrives between the last byte code of the main thread and the loop's system call doesn't end that call:
Python runs the handler when the call returns, which without another event is never. A Ctrl-C would be lost.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable

__all__ = ["wake_for_signals"]

#: Seconds after which a handler runs at the latest.
INTERVAL = 0.25

_woken: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


def wake_for_signals(loop: asyncio.AbstractEventLoop, is_used: Callable[[], bool]) -> None:
    """Wake `loop` regularly while `is_used()`. On the thread of the loop; does nothing outside of the main thread.

    A second call for a loop that is being woken does nothing.
    """
    if loop in _woken or threading.current_thread() is not threading.main_thread():
        return
    _woken.add(loop)

    def wake() -> None:
        if is_used():
            loop.call_later(INTERVAL, wake)
        else:
            _woken.discard(loop)

    loop.call_later(INTERVAL, wake)
