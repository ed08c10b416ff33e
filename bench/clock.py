"""CPU time of this process, all threads, for a piece of work."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable

__all__ = ["cpu_of", "cpu_of_async", "median_of"]


def cpu_of(work: Callable[[], object]) -> float:
    """Return the CPU seconds that `work()` takes in this process."""
    gc.collect()
    began = time.process_time()
    work()
    return time.process_time() - began


async def cpu_of_async(work: Callable[[], Awaitable[object]]) -> float:
    """The same for a coroutine function."""
    gc.collect()
    began = time.process_time()
    await work()
    return time.process_time() - began


def median_of(work: Callable[[], object], repeats: int, *, warm: int = 1) -> float:
    """Return the median of `repeats` measurements of `work()`, in CPU seconds, after `warm` that don't count."""
    return statistics.median([cpu_of(work) for _ in range(warm + repeats)][warm:])
