"""Interrupt Python code in another thread by an asynchronous exception that can't land outside of user code.

`PyThreadState_SetAsyncExc` raises at the next point where the thread checks for it, whatever code that is. Without a
guard it could land while the worker thread holds the mutex of its queue, and deadlock the pool. So an
`AsyncExceptionGuard` is armed around the user's call only.
CPython only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from desist.calls.async_exception_safety import raise_in_thread
from desist.cancel.context import current_call
from desist.exceptions import RunCancelled

__all__ = ["AsyncExceptionGuard", "InjectedRunCancelled"]

T = TypeVar("T")


class InjectedRunCancelled(RunCancelled):
    """The exception class that is sent.

    CPython creates the instance lazily, in the receiving thread, when code there catches or inspects the exception.
    So `__init__` runs in the thread of the call, and `current_call` is the interrupted call.
    """

    def __init__(self) -> None:
        call = current_call.call
        super().__init__(None if call is None else call.token.reason)
        if call is not None:
            call.exception_delivered = True


# Users see the public class in tracebacks and logs.
InjectedRunCancelled.__name__, InjectedRunCancelled.__qualname__, InjectedRunCancelled.__module__ = (
    "RunCancelled",
    "RunCancelled",
    RunCancelled.__module__,
)


class AsyncExceptionGuard:
    """Guard of one call in one thread.

    Invariant: an exception is sent only while `_armed` is true, and both are read and written under `_lock`. The lock
    is held for the time of a `PyThreadState_SetAsyncExc` and never while user code runs.
    """

    __slots__ = ("_armed", "_lock", "_start_prevented", "_thread")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed = False
        self._start_prevented = False
        self._thread = 0

    def call(self, function: Callable[[], T]) -> T:
        """Call `function()` in this thread, once per guard. `interrupt` makes the call raise `RunCancelled`.

        Raises:
            RunCancelled: the call was interrupted, possibly before it started.
        """
        self._thread = threading.get_ident()  # before arming: `interrupt` reads it as soon as `_armed` is true
        try:
            try:
                with self._lock:
                    self._armed = not self._start_prevented
                if not self._armed:
                    raise RunCancelled(None)
                return function()
            finally:
                # Inline on purpose: between the end of `function` and the lock there is no point at which CPython
                # delivers a pending exception (the start of a Python function, a jump, the return of a C function).
                # One that was sent while this thread waited for the lock is delivered when `__exit__` returns, so it
                # is raised inside of `call` too, and nothing is pending afterwards.
                with self._lock:
                    self._armed = False
        finally:
            with self._lock:  # a trace function is such a point: then the exception left the block above too early
                self._armed = False

    def interrupt(self, unless: Callable[[], bool] | None = None) -> bool:
        """Raise `RunCancelled` in the call. A call that hasn't started won't start.

        Called by the canceller's thread or the timer thread; a repeated call sends another exception, which replaces
        one that is still pending.

        Parameters:
            unless: a function of C code that must return False, or nothing is sent.

        Returns:
            False if there is no call, or if the call is in code that must not be interrupted: try again later.
        """
        with self._lock:
            self._start_prevented = True
            return self._armed and raise_in_thread(self._thread, InjectedRunCancelled, unless)
