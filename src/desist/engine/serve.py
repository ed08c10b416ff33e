"""`serve_worker`: a worker as a process of its own. It works, says so, and leaves in order when it is told to.

SIGTERM: no new runs; those that live may end by themselves until a deadline, then they are handed over or cancelled,
with source `shutdown`; exit code 0. Ctrl-C: the same without the waiting. A second signal ends the waiting, a third one
everything.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from types import FrameType
from typing import TextIO

from desist.cancel.reason import Source
from desist.engine.worker import Worker

__all__ = ["serve_worker"]

INTERRUPTED = 130


def serve_worker(worker: Worker, *, out: TextIO | None = None) -> int:
    """Start a worker and let it work until a signal ends it; return the exit code. Main thread only.

    Parameters:
        out: where it says what it does; None for standard error.
    """
    told: queue.SimpleQueue[int] = queue.SimpleQueue()  # putting into it is allowed in the middle of anything

    def on_signal(number: int, frame: FrameType | None) -> None:
        told.put(number)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        worker.start()
        print(f"desist works on {worker.describe}", file=out or sys.stderr, flush=True)
        number = told.get()
        interrupted = number == signal.SIGINT
        leaving = threading.Thread(target=_leave, args=(worker, interrupted, told), name="desist-leaving", daemon=True)
        leaving.start()
        again = 0
        while told.get() >= 0:  # -1: it has left
            worker.skip_drain()
            again += 1
            if again > 1:
                os._exit(INTERRUPTED if interrupted else 1)
        return INTERRUPTED if interrupted else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(worker: Worker, interrupted: bool, signals: queue.SimpleQueue[int]) -> None:
    try:
        if interrupted:
            worker.skip_drain()
            worker.stop(Source.interrupt, "Ctrl-C")
        else:
            worker.stop(Source.shutdown, "SIGTERM")
    finally:
        signals.put(-1)
