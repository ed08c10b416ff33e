"""Counts what a process holds, and says what is left over: threads, files, sockets, tasks, children.

For tests: `with assert_no_leaks(): ...`, or `async with` where tasks of this loop must get the chance to end.
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

_POLL = 0.01  # seconds between two counts while waiting for things to go
_LOOKS = 3  #: at least


@dataclass(frozen=True, slots=True)
class Census:
    """What the process holds. `names` says which, by kind; sockets are counted among the files too."""

    threads: int
    fds: int
    sockets: int
    tasks: int  #: asyncio tasks that aren't done, of any loop in any thread
    children: int  #: child processes, of any depth
    names: dict[str, list[str]] = field(default_factory=dict, compare=False, repr=False)


def census() -> Census:
    """Count now. Takes some 20 ms: it looks at every object that the garbage collector knows."""
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
    """Fail if the block leaves more behind than it found. Waits up to `settle` seconds for things to go.

    What may stay is named by kind: `assert_no_leaks(threads=1)` allows one more thread, such as the one that
    desist's own loop starts at the first sync run.

    Raises:
        AssertionError: with the names of what is there now and wasn't before. Not if the block itself failed.
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
        over = self._clock()
        while (left := self._left()) and not over():
            time.sleep(_POLL)
        self._judge(left)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if error is not None:
            return
        over = self._clock()
        while (left := self._left()) and not over():
            await asyncio.sleep(_POLL)
        self._judge(left)

    def _clock(self) -> Callable[[], bool]:
        """Return what says when to look no more. On a busy machine one look may take longer than the time for all."""
        deadline, looks = time.monotonic() + self._settle, itertools.count(1)
        return lambda: next(looks) >= _LOOKS and time.monotonic() >= deadline

    def _left(self) -> list[str]:
        """Return a line for each kind of which there is too much."""
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

    def _judge(self, left: list[str]) -> None:
        if left:
            raise AssertionError(f"left behind after {self._settle} s:\n  " + "\n  ".join(left))


def _files() -> list[str]:
    """Return the open files as "number target"; the numbers only where the system doesn't tell more."""
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError:
        process = psutil.Process()
        sockets = [f"{c.fd} socket:{c.laddr}" for c in process.net_connections(kind="all")]
        return sockets + [str(i) for i in range(process.num_fds() - len(sockets))]
    found = []
    for number in numbers:
        with contextlib.suppress(OSError):  # the listing's own is gone by now
            found.append(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
    return found


def _task_name(task: asyncio.Task[object]) -> str:
    return "" if task.done() else f"{task.get_name()}: {task.get_coro()!r}"


def _child_name(child: psutil.Process) -> str:
    try:
        return f"{child.pid} {' '.join(child.cmdline())}"
    except psutil.Error:
        return f"{child.pid} (gone)"
