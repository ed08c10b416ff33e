"""Whether a suspended coroutine is in an `except` or `finally` block that handles an exception.

Such a block is cleanup, and a second cancellation would tear it. Python doesn't tell which exception a suspended frame
handles, but the exception table of its code does tell where the frame stands. The compiler guards each handler by an
entry whose target restores the outer exception and raises again: that target begins with the instruction `COPY`, a
handler itself with `PUSH_EXC_INFO` (Python 3.11 to 3.13).
"""

from __future__ import annotations

import dis
import functools
import gc
from types import AsyncGeneratorType, CodeType
from typing import Any

__all__ = ["is_in_handler"]


def is_in_handler(awaitable: Any) -> bool:
    """Return whether a frame of a suspended chain of awaits is in a handler. On the thread of its loop.

    True also where that can't be seen: a coroutine that isn't written in Python.
    """
    while awaitable is not None:
        kind = next((kind for kind in ("cr", "gi", "ag") if hasattr(awaitable, f"{kind}_frame")), None)
        if kind is None:  # the step of an async generator, or a future at the end of the chain
            awaitable = next((one for one in gc.get_referents(awaitable) if isinstance(one, AsyncGeneratorType)), None)
            continue
        frame = getattr(awaitable, f"{kind}_frame")
        if frame is None or _stands_in_handler(frame.f_code, frame.f_lasti):
            return True
        awaitable = getattr(awaitable, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
    return False


@functools.lru_cache(maxsize=1024)
def _stands_in_handler(code: CodeType, offset: int) -> bool:
    """Follow the path of an exception that is raised at `offset` outwards, from handler to handler.

    The end of a handler that the path hasn't entered before is the end of a handler around `offset`.
    """
    names = {instruction.offset: instruction.opname for instruction in dis.get_instructions(code)}
    entries = getattr(dis.Bytecode(code), "exception_entries", ())
    entered = 0
    for _ in range(len(entries) + 1):
        target = next((entry.target for entry in entries if entry.start <= offset < entry.end), None)
        if target is None:
            break
        if names.get(target) == "COPY":
            if not entered:
                return True
            entered -= 1
        entered += names.get(target) == "PUSH_EXC_INFO"
        offset = target
    return False
