"""Looking at what another thread is in, without ever holding one of its frames.

A frame that is looked at while its thread is just leaving it becomes an object that CPython 3.11 doesn't know of: once
the thread goes on, every use of it is a read of memory that is gone, and crashes sooner or later. So the whole look is
one call of C code, in which the GIL isn't given up and no other thread can move; afterwards only code objects and
numbers are left. What asks audit hooks (the attribute `f_code` does) has no place in it: a hook is Python code, and
can lose the GIL.
Called by `async_exception_safety` and by whoever tells where a thread is.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import accumulate, chain, islice, repeat, takewhile, tee
from operator import itemgetter
from types import CodeType, FrameType
from typing import Any, TypeVar

__all__ = ["code_of", "iter_frames", "sample_stack", "with_gc_disabled"]

T = TypeVar("T")

#: The code of a frame, without asking audit hooks.
code_of = ctypes.pythonapi.PyFrame_GetCode
code_of.argtypes = [ctypes.py_object]
code_of.restype = ctypes.py_object

_line_of = ctypes.pythonapi.PyFrame_GetLineNumber
_line_of.argtypes = [ctypes.py_object]
_line_of.restype = ctypes.c_int

_sampling = threading.Lock()


def iter_frames(thread: int) -> Iterator[FrameType]:
    """Return the frames of a thread, the innermost first; a KeyError in the middle if it is gone.

    All C code. It must be used up in one call of C code, inside `with_gc_disabled`.
    """
    innermost: Iterator[Any] = islice(map(itemgetter(thread), iter(sys._current_frames, None)), 1)
    return takewhile(bool, accumulate(chain(innermost, repeat("f_back")), getattr))


def with_gc_disabled(func: Callable[[], T]) -> T:
    """Call something that calls `sys._current_frames`, while no garbage is collected.

    It holds a lock of the interpreter's. If a collection began in it, finalizers would run with that lock held, wait
    for the GIL, and whoever has the GIL and starts a thread waits for the lock: so CPython 3.11 hangs for ever.
    """
    with _sampling:
        collecting = gc.isenabled()
        gc.disable()
        try:
            return func()
        finally:
            if collecting:
                gc.enable()


def sample_stack(thread: int) -> list[tuple[CodeType, int]]:
    """Return where a thread is: code and line number of each frame, the innermost first. [] if it is gone."""
    ours, theirs = tee(iter_frames(thread))
    rows = zip(map(code_of, ours), map(_line_of, theirs), strict=False)
    try:
        return with_gc_disabled(lambda: list(rows))
    except KeyError:
        return []


def _reset_after_fork() -> None:
    global _sampling
    _sampling = threading.Lock()


os.register_at_fork(after_in_child=_reset_after_fork)
