"""Read the stack of another thread without ever holding one of its frames.

A frame object that is created while its thread is leaving the frame isn't known to CPython 3.11: once the thread goes
on, every use of the object reads freed memory, and crashes sooner or later. So the whole sample is one call of C code,
which doesn't release the GIL, so that no other thread can run; only code objects and numbers are left afterwards.
Nothing in the call may raise an audit event (the attribute `f_code` does): an audit hook is Python code, in which the
GIL can be released.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import accumulate, chain, islice, repeat, takewhile, tee
from operator import itemgetter
from types import CodeType, FrameType
from typing import Any, TypeVar

from desist.runtime.fork_hooks import register_at_fork

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
    """Return an iterator over the frames of a thread, the innermost first. It raises KeyError if the thread is gone.

    All C code. It must be exhausted in one call of C code, inside `with_gc_disabled`.
    """
    innermost: Iterator[Any] = islice(map(itemgetter(thread), iter(sys._current_frames, None)), 1)
    return takewhile(bool, accumulate(chain(innermost, repeat("f_back")), getattr))


def with_gc_disabled(func: Callable[[], T]) -> T:
    """Call `func()`, which calls `sys._current_frames`, while the garbage collector is disabled.

    `sys._current_frames` holds a lock of the interpreter. If a collection began in it, finalizers would run with that
    lock held and could release the GIL; a thread that gets the GIL and starts a thread waits for the lock: a deadlock
    of CPython 3.11. The lock here keeps two callers from enabling the collector for each other.
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
    """Return code and line number of each frame of a thread, the innermost first; [] if the thread is gone."""
    ours, theirs = tee(iter_frames(thread))
    rows = zip(map(code_of, ours), map(_line_of, theirs), strict=False)
    try:
        return with_gc_disabled(lambda: list(rows))
    except KeyError:
        return []


def _reset_after_fork() -> None:
    global _sampling
    _sampling = threading.Lock()


register_at_fork(after_in_child=_reset_after_fork)
