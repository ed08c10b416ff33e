"""Sending an asynchronous exception, but never into code of the standard library that would break for good.

It would land between the taking of a lock and the `try` after it: the import lock, a logging handler's, a condition's.
Then no thread of the process could import or log any more. Or between the birth of a child process or a file
descriptor and the note of its number. A thread whose innermost frame is in such code isn't sent anything; it will be
out in a moment.
Called by `Guard`, with its lock held.
"""

from __future__ import annotations

import _weakrefset
import ctypes
import functools
import gc
import importlib._bootstrap
import importlib._bootstrap_external
import logging
import os
import socket
import ssl
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from itertools import repeat
from operator import itemgetter
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, TypeVar

__all__ = ["frame_of", "send"]

T = TypeVar("T")

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = [ctypes.c_ulong, ctypes.py_object]
_set_async_exc.restype = ctypes.c_int
#: Unlike the attribute `f_code` it asks no audit hook, which is Python code and can lose the GIL.
_code_of = ctypes.pythonapi.PyFrame_GetCode
_code_of.argtypes = [ctypes.py_object]
_code_of.restype = ctypes.py_object

#: What starts a child process, and how many frames below it there may be.
_POPEN, _DEEP = subprocess.Popen.__init__.__code__, 8
_looking = threading.Lock()

#: Modules and classes all of whose code is delicate; none of it waits for anything but its locks.
_MODULES: tuple[Any, ...] = (
    importlib._bootstrap,
    importlib._bootstrap_external,
    logging,
    weakref,
    _weakrefset,
)
#: What the functions of a module say that it is called, where that isn't its name: these two are frozen.
_NAMES = {
    "importlib._bootstrap": ("importlib._bootstrap", "_frozen_importlib"),
    "importlib._bootstrap_external": ("importlib._bootstrap_external", "_frozen_importlib_external"),
}
#: Functions that are; what waits must not be here, or it could never be interrupted.
_FUNCTIONS: tuple[Any, ...] = (
    subprocess.Popen.__init__,
    subprocess.Popen._get_handles,  # type: ignore[attr-defined]
    subprocess.Popen._execute_child,  # type: ignore[attr-defined]
    threading.Condition.__enter__,
    threading.Condition.__exit__,
    socket.socketpair,
    socket.socket.__init__,
    ssl.SSLSocket._create,  # type: ignore[attr-defined]
)


def send(thread: int, error: type[BaseException]) -> bool:
    """Raise `error` in a thread at its next byte code; return False if it is in delicate code now, or gone.

    CPython delivers it in the frame that is innermost now: a thread that isn't running stands at the end of a call, or
    at a jump. So looking and sending must be one step, in which no other thread can run: one call of C code, which
    holds the GIL. For a delicate frame the number sent to is 0, which no thread has.
    """
    if _is_starting_a_child(thread):
        return False
    frames = map(itemgetter(thread), iter(sys._current_frames, None))
    numbers = map(_delicate().get, map(_code_of, frames), repeat(thread))
    told = map(_set_async_exc, numbers, repeat(ctypes.py_object(error)))
    try:
        return bool(_without_collections(lambda: next(told)))
    except KeyError:
        return False


def _is_starting_a_child(thread: int) -> bool:
    """Whether a thread is anywhere in the start of a child process. By the time of the answer it may not be."""
    frame = frame_of(thread)
    for _ in range(_DEEP):
        if frame is None:
            return False
        if _code_of(frame) is _POPEN:
            return True
        frame = frame.f_back
    return False


def frame_of(thread: int) -> FrameType | None:
    """Return the innermost frame of a thread, or None if it is gone."""
    return _without_collections(sys._current_frames).get(thread)


def _without_collections(look: Callable[[], T]) -> T:
    """Call `sys._current_frames` while no garbage is collected.

    It holds a lock of the interpreter's. If a collection began in it, finalizers would run with that lock held, wait
    for the GIL, and whoever has the GIL and starts a thread waits for the lock: so CPython 3.11 hangs for ever.
    """
    with _looking:
        collecting = gc.isenabled()
        gc.disable()
        try:
            return look()
        finally:
            if collecting:
                gc.enable()


@functools.cache
def _delicate() -> dict[CodeType, int]:
    """Return all delicate code, and 0 for each."""
    found: dict[CodeType, int] = {}
    open_ = [function.__code__ for function in _FUNCTIONS]
    for module in _MODULES:
        open_ += _codes_in(module)
    while open_:
        code = open_.pop()
        found[code] = 0
        open_ += [const for const in code.co_consts if isinstance(const, CodeType)]
    return found


def _codes_in(place: Any) -> Iterator[CodeType]:
    """Yield the code of the functions of a module or class, and of the classes in it; not what it has imported."""
    names = _NAMES.get(place.__name__, (place.__name__,)) if isinstance(place, ModuleType) else (place.__module__,)
    for thing in list(vars(place).values()):
        if isinstance(thing, staticmethod | classmethod):
            thing = thing.__func__
        if isinstance(thing, FunctionType) and thing.__module__ in names:
            yield thing.__code__
        elif isinstance(thing, type) and thing.__module__ in names and isinstance(place, ModuleType):
            yield from _codes_in(thing)


def _forget_in_child() -> None:
    global _looking
    _looking = threading.Lock()


os.register_at_fork(after_in_child=_forget_in_child)
