"""Models, tools and calls that tests of several guarantees share."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from cancel_trial import (
    PATIENCE,
    Trial,
)

from desist import RunCancelled
from desist.calls.abandoned_threads import abandoned_threads
from desist.testing import Gate, LoopbackProvider

WORDS = [f"w{i} " for i in range(500)]


TEXT = "".join(WORDS)


def spoken(provider: LoopbackProvider, trial: Trial, count: int) -> None:
    provider.wait_request().wait_sent(count)
    trial.wait_text(count)


def waiting_tool(asynchronous: bool, gate: Gate, seen: list[str]) -> Callable[..., Any]:
    """Return a tool that waits at the gate and notes how it was woken."""

    async def fetch() -> str:
        """Fetch."""
        try:
            await gate.wait()
        except asyncio.CancelledError:
            seen.append("CancelledError")
            raise
        finally:
            seen.append("finally")
        return "fetched"

    def fetch_sync() -> str:
        """Fetch."""
        try:
            gate.wait_blocking(30)
        except RunCancelled as cancelled:
            seen.append(f"RunCancelled {cancelled.reason.text}")
            raise
        finally:
            seen.append("finally")
        return "fetched"

    return fetch if asynchronous else fetch_sync


class Deaf:
    """Blocks its thread where Python can't interrupt it from outside, until the test lets it go."""

    def __init__(self) -> None:
        self.entered, self.left = threading.Event(), threading.Event()
        self._items = queue.SimpleQueue[None]()  # it waits in C code, which nothing wakes

    def block(self) -> str:
        self.entered.set()
        try:
            self._items.get(timeout=30)
        finally:
            self.left.set()
        return "late result"

    def release(self) -> None:
        self._items.put(None)

    def wait_entered(self) -> None:
        assert self.entered.wait(PATIENCE)


def let_go(deaf: Deaf) -> None:
    deaf.release()
    assert deaf.left.wait(PATIENCE)
    limit = time.monotonic() + PATIENCE
    while abandoned_threads():
        assert time.monotonic() < limit
        time.sleep(0.001)
