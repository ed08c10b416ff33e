"""A way out of Python code for another thread: an asynchronous exception that can't land outside of user code.

`PyThreadState_SetAsyncExc` raises at the thread's next byte code, wherever that is. Unguarded, it lands in a queue's
mutex and deadlocks the pool. So a `Guard` is armed around the user's call only; sending and disarming exclude each
other, and an exception that was sent and not delivered is taken back when the call is left.
Linux and elsewhere, CPython only.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar

from desist.exceptions import RunCancelled

__all__ = ["Guard"]

T = TypeVar("T")

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = [ctypes.c_ulong, ctypes.py_object]
_set_async_exc.restype = ctypes.c_int
#: NULL takes an exception back; `None` would be set as the exception itself.
_NOTHING = ctypes.py_object()


class Guard:
    """Around one call in one thread."""

    __slots__ = ("_armed", "_lock", "_refused", "_thread")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed = False
        self._refused = False
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
            if self._armed:
                self._armed = False
                _set_async_exc(self._thread, _NOTHING)

    def refuse(self) -> None:
        """Don't let a call begin that hasn't."""
        with self._lock:
            self._refused = True

    def interrupt(self) -> bool:
        """Raise `RunCancelled` in the call at its next byte code; return whether there is one. From any thread."""
        with self._lock:
            self._refused = True
            if not self._armed:
                return False
            return bool(_set_async_exc(self._thread, ctypes.py_object(RunCancelled)))
