"""Count the resources of this process and report leaks: threads, files, sockets, tasks, child processes.

For tests: `with assert_no_leaks(): ...`, or `async with` if tasks of the running loop need time to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

import psutil

__all__ = ["Census", "assert_no_leaks", "census"]

_POLL = 0.01  # seconds between two counts while resources are being released
_MIN_COUNTS = 3  #: counts before a leak is reported, on a busy machine too


@dataclass(frozen=True, slots=True)
class Census:
    """The resources of the process. `names` lists them by kind. A socket counts as a file, too."""

    threads: int
    fds: int
    sockets: int
    tasks: int  #: unfinished asyncio tasks of all loops in all threads
    children: int  #: child processes, of any depth
    names: dict[str, list[str]] = field(default_factory=dict, compare=False, repr=False)


def census() -> Census:
    """Return the current counts. Takes about 20 ms: every object known to the garbage collector is inspected."""
    files = _files()
    names = {
        "threads": [thread.name for thread in threading.enumerate()],
        "fds": files,
        "sockets": [name for name in files if "socket:" in name],
        "tasks": [_task_name(task) for task in gc.get_objects() if issubclass(type(task), asyncio.Task)],
        "children": [_child_name(child) for child in psutil.Process().children(recursive=True)],
    }
    names["tasks"] = [name for name in names["tasks"] if name]
    return Census(**{kind: len(found) for kind, found in names.items()}, names=names)


class assert_no_leaks:
    """Fail if more resources are in use after the block than before. Waits up to `settle` seconds for their release.

    The keywords allow additional resources by kind: `assert_no_leaks(threads=1)` allows one more thread, such as that
    of desist's own loop, which the first sync run starts.

    Raises:
        AssertionError: names the new resources. Not raised if the block itself failed.
    """

    def __init__(
        self,
        *,
        settle: float = 2.0,
        threads: int = 0,
        fds: int = 0,
        sockets: int = 0,
        tasks: int = 0,
        children: int = 0,
    ) -> None:
        self._settle = settle
        self._allowed = {"threads": threads, "fds": fds, "sockets": sockets, "tasks": tasks, "children": children}
        self._before: Census | None = None

    def __enter__(self) -> None:
        gc.collect()
        self._before = census()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is not None:
            return
        is_over = self._clock()
        while (left := self._left()) and not is_over():
            time.sleep(_POLL)
        self._report(left)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if error is not None:
            return
        is_over = self._clock()
        while (left := self._left()) and not is_over():
            await asyncio.sleep(_POLL)
        self._report(left)

    def _clock(self) -> Callable[[], bool]:
        """Return a function that tells whether time is up. At least `_MIN_COUNTS` counts are made: one may be slow."""
        deadline, counts = time.monotonic() + self._settle, itertools.count(1)
        return lambda: next(counts) >= _MIN_COUNTS and time.monotonic() >= deadline

    def _left(self) -> list[str]:
        """Return a line for each kind of resource that exceeds its limit."""
        assert self._before is not None
        gc.collect()
        now, lines = census(), []
        for kind, allowed in self._allowed.items():
            before, after = getattr(self._before, kind), getattr(now, kind)
            if after > before + allowed:
                new = list(now.names[kind])
                for name in self._before.names[kind]:
                    with contextlib.suppress(ValueError):
                        new.remove(name)
                lines.append(f"{kind}: {before} before, {after} after (allowed: {allowed} more); new: {new}")
        return lines

    def _report(self, left: list[str]) -> None:
        if left:
            raise AssertionError(f"left behind after {self._settle} s:\n  " + "\n  ".join(left))


def _files() -> list[str]:
    """Return the open files as "number target"; where the system doesn't provide the target, as a number."""
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError:
        process = psutil.Process()
        sockets = [f"{c.fd} socket:{c.laddr}" for c in process.net_connections(kind="all")]
        return sockets + [str(i) for i in range(process.num_fds() - len(sockets))]
    found = []
    for number in numbers:
        with contextlib.suppress(OSError):  # the descriptor of the listing itself is closed by now
            found.append(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
    return found


def _task_name(task: asyncio.Task[object]) -> str:
    return "" if task.done() else f"{task.get_name()}: {task.get_coro()!r}"


def _child_name(child: psutil.Process) -> str:
    try:
        return f"{child.pid} {' '.join(child.cmdline())}"
    except psutil.Error:
        return f"{child.pid} (gone)"
