"""Send an asynchronous exception, but never into code of the standard library that would be left broken.

The exception could land between the acquisition of a lock and the `try` after it: the import lock, the lock of a
logging handler or of a condition. Then no thread of the process could import or log any more. Or it could land between
the creation of a child process or file descriptor and the assignment of its number. Nothing is sent to a thread whose
innermost frame is in such code; the thread leaves it in a moment.
Called by `AsyncExceptionGuard`, with its lock held.
"""

from __future__ import annotations

import _weakrefset
import ctypes
import functools
import importlib._bootstrap
import importlib._bootstrap_external
import logging
import socket
import ssl
import subprocess
import threading
import weakref
from collections.abc import Iterator
from itertools import chain, islice, repeat
from types import CodeType, FunctionType, ModuleType
from typing import Any

from desist.runtime.stack_sampling import code_of, iter_frames, with_gc_disabled

__all__ = ["protect", "raise_in_thread"]

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = [ctypes.c_ulong, ctypes.py_object]
_set_async_exc.restype = ctypes.c_int

#: Code that starts a child process, a thread or a job: nothing that it calls may be interrupted either. At most
#: `_MAX_DEPTH` callers of the innermost frame are compared.
_STARTING: dict[CodeType, int] = {subprocess.Popen.__init__.__code__: 0}
_MAX_DEPTH = 16

#: Modules whose code must not be interrupted; none of it waits for anything but its locks.
_MODULES: tuple[Any, ...] = (
    importlib._bootstrap,
    importlib._bootstrap_external,
    logging,
    weakref,
    _weakrefset,
)
#: The values of `__module__` of a module's functions, where they differ from its name: these two are frozen.
_NAMES = {
    "importlib._bootstrap": ("importlib._bootstrap", "_frozen_importlib"),
    "importlib._bootstrap_external": ("importlib._bootstrap_external", "_frozen_importlib_external"),
}
#: Functions that must not be interrupted. None of them may wait, or the wait could never be interrupted.
_FUNCTIONS: list[Any] = [
    subprocess.Popen.__init__,
    subprocess.Popen._get_handles,  # type: ignore[attr-defined]
    subprocess.Popen._execute_child,  # type: ignore[attr-defined]
    threading.Condition.__enter__,
    threading.Condition.__exit__,
    socket.socketpair,
    socket.socket.__init__,
    getattr(ssl.SSLSocket, "_create", None),  # gevent's has none
]


def raise_in_thread(thread: int, error: type[BaseException]) -> bool:
    """Raise `error` in a thread at its next check; return False if the thread is in unsafe code now, or gone.

    With the lock of the guard held. CPython delivers the exception in the frame that is innermost now: a thread that
    isn't running has stopped at the end of a C call, or at a jump. So the check of the frames and the sending must be
    one step in which no other thread can run: one call of C code, which holds the GIL. Everything before it only
    builds the iterators; `next` runs them. For unsafe code the thread number becomes 0, which no thread has, and
    `PyThreadState_SetAsyncExc` returns 0.

    Called twice, the second exception replaces the first if that is still pending.
    """
    codes = map(code_of, iter_frames(thread))
    innermost = map(_unsafe_code_objects().get, islice(codes, 1), repeat(thread))
    around = map(_STARTING.get, islice(codes, _MAX_DEPTH), repeat(thread))
    numbers = map(min, iter([chain(innermost, around)]))
    sent = map(_set_async_exc, numbers, repeat(ctypes.py_object(error)))
    try:
        return bool(with_gc_disabled(lambda: next(sent)))
    except KeyError:
        return False


def protect(*functions: Any) -> None:
    """Never interrupt these functions, nor what they call. They must not wait for anything but a start."""
    _STARTING.update((function.__code__, 0) for function in functions)
    _FUNCTIONS.extend(functions)
    _unsafe_code_objects.cache_clear()


@functools.cache
def _unsafe_code_objects() -> dict[CodeType, int]:
    """Return all code objects that must not be interrupted, each with the thread number 0."""
    found: dict[CodeType, int] = {}
    open_ = [function.__code__ for function in _FUNCTIONS if isinstance(function, FunctionType)]
    for module in _MODULES:
        open_ += _codes_in(module)
    while open_:
        code = open_.pop()
        found[code] = 0
        open_ += [const for const in code.co_consts if isinstance(const, CodeType)]
    return found


def _codes_in(container: Any) -> Iterator[CodeType]:
    """Yield the code of the functions of a module or class and of the classes in it, without imported ones."""
    names = (
        _NAMES.get(container.__name__, (container.__name__,))
        if isinstance(container, ModuleType)
        else (container.__module__,)
    )
    for thing in list(vars(container).values()):
        if isinstance(thing, staticmethod | classmethod):
            thing = thing.__func__
        if isinstance(thing, FunctionType) and thing.__module__ in names:
            yield thing.__code__
        elif isinstance(thing, type) and thing.__module__ in names and isinstance(container, ModuleType):
            yield from _codes_in(thing)
