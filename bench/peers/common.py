"""What the programs of all peers share. Only the standard library: each program runs in the environment of its peer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["Worker", "obey", "report", "spread", "timed", "timed_async"]


def spread(seconds: list[float]) -> dict[str, float]:
    """Return p50 and p99, in milliseconds."""
    ordered = sorted(seconds)
    at = [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.99)]
    return {"p50": 1e3 * at[0], "p99": 1e3 * at[1]}


def timed(call: Callable[[int], object], count: int) -> dict[str, float]:
    """Call it `count` times, one after the other; return p50 and p99 of the wall time, and the CPU time of each."""
    for number in range(10):
        call(-1 - number)
    wall = list[float]()
    cpu = time.process_time()
    for number in range(count):
        began = time.perf_counter()
        call(number)
        wall.append(time.perf_counter() - began)
    return spread(wall) | {"cpu": 1e3 * (time.process_time() - cpu) / count}


async def timed_async(call: Callable[[int], Awaitable[object]], count: int) -> dict[str, float]:
    """Do the same with an async function."""
    for number in range(10):
        await call(-1 - number)
    wall = list[float]()
    cpu = time.process_time()
    for number in range(count):
        began = time.perf_counter()
        await call(number)
        wall.append(time.perf_counter() - began)
    return spread(wall) | {"cpu": 1e3 * (time.process_time() - cpu) / count}


def report(figures: dict[str, Any]) -> None:
    """Print the figures of this program, with the load of the machine."""
    print(json.dumps(figures | {"load": os.getloadavg()[0]}), flush=True)


class Worker:
    """A worker process of a peer, which says its CPU time when asked."""

    def __init__(self, module: str, url: str) -> None:
        command = [sys.executable, "-m", module, "worker", url]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def cpu(self) -> float:
        """Return the CPU seconds that the worker has used."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print("cpu", file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End the worker."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def obey() -> None:
    """Be a worker for `Worker`: in a thread of the process that works, until the input ends."""
    os.write(1, b"ready\n")
    for _ in sys.stdin:
        os.write(1, f"{time.process_time()}\n".encode())
    os._exit(0)
