"""A way out of Python code for another thread: an asynchronous exception that can't land outside of user code.

`PyThreadState_SetAsyncExc` raises at the thread's next byte code, wherever that is. Unguarded, it lands in a queue's
mutex and deadlocks the pool. So a `AsyncExceptionGuard` is armed around the user's call only; sending and disarming
exclude each other, and an exception that was sent is used up when the call is left, delivered or not.
Linux and elsewhere, CPython only.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar

from desist.calls.async_exception_safety import raise_in_thread
from desist.cancel.context import current_call
from desist.exceptions import RunCancelled

__all__ = ["AsyncExceptionGuard"]

T = TypeVar("T")

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = [ctypes.c_ulong, ctypes.py_object]
_set_async_exc.restype = ctypes.c_int


class _InjectedRunCancelled(RunCancelled):
    """What is sent: the class. CPython makes the object in the thread that it reached, once something there sees it."""

    def __init__(self) -> None:
        call = current_call.call
        super().__init__(None if call is None else call.token.reason)
        if call is not None:
            call.exception_delivered = True


_InjectedRunCancelled.__name__, _InjectedRunCancelled.__qualname__, _InjectedRunCancelled.__module__ = (
    "RunCancelled",
    "RunCancelled",
    RunCancelled.__module__,
)


class _Cleared(BaseException):
    """Replaces what was sent."""


class AsyncExceptionGuard:
    """Around one call in one thread."""

    __slots__ = ("_armed", "_lock", "_refused", "_sent", "_thread")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed = False
        self._refused = False
        self._sent = False
        self._thread = 0

    def call(self, function: Callable[[], T]) -> T:
        """Call `function()`; `interrupt` ends it with `RunCancelled`, also before it has begun."""
        self._thread = threading.get_ident()
        try:
            with self._lock:
                self._armed = not self._refused
            if not self._armed:
                raise RunCancelled(None)
            try:
                return function()
            finally:
                self._disarm()
        finally:
            # One can have been delivered between the call and the disarming: then it was raised above, and this
            # block disarms again. From here on none can be sent.
            self._disarm()

    def _disarm(self) -> None:
        with self._lock:
            self._armed = False
            if self._sent:
                self._sent = False
                _clear_pending_exception(self._thread)

    def prevent_start(self) -> None:
        """Don't let a call begin that hasn't."""
        with self._lock:
            self._refused = True

    def interrupt(self) -> bool:
        """Raise `RunCancelled` in the call at its next byte code. From any thread.

        Returns:
            False if there is no call, or it is in code that must not be interrupted: try again.
        """
        with self._lock:
            self._refused = True
            if not self._armed:
                return False
            sent = raise_in_thread(self._thread, _InjectedRunCancelled)
            self._sent = self._sent or sent
            return sent


def _clear_pending_exception(thread: int) -> None:
    """Take back what was sent to `thread`, which is this one.

    Another exception overwrites it and is delivered here. Setting NULL would take it back too, but leaves CPython 3.11
    looking for it at every jump for ever: all code is slower, and a profiler or debugger hangs.
    """
    try:
        _set_async_exc(thread, ctypes.py_object(_Cleared))
        for _ in range(100):  # it is delivered by the first jump at the latest
            pass
    except _Cleared:
        pass
