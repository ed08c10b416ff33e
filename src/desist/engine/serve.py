"""`serve_worker`: run a worker in this process until a signal ends it.

SIGTERM: no new runs are claimed. Live runs may end by themselves until a deadline, then they are handed over, or
cancelled with source `shutdown`. Exit code 0. Ctrl-C: the same without waiting. A second signal ends the wait, a third
one exits at once.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import TextIO

from desist.cancel.reason import Source
from desist.engine.health_file import HealthFile
from desist.engine.worker import Worker

__all__ = ["serve_worker"]

INTERRUPTED = 130


def serve_worker(worker: Worker, *, out: TextIO | None = None, health_file: str | Path | None = None) -> int:
    """Run a worker until a signal ends it. Return the exit code. Main thread only.

    Parameters:
        out: the file for the line that says what the worker serves; None for standard error.
        health_file: a file that exists while the worker serves, and is touched every five seconds; for probes.

    Raises:
        ConfigurationError: the health file can't be written.
        StoreError: the database can't be used.
    """
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()  # its `put` is reentrant, so it is safe in a signal handler

    def on_signal(number: int, frame: FrameType | None) -> None:
        signals.put(number)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    health = HealthFile(Path(health_file)) if health_file is not None else None
    try:
        worker.start()
        if health is not None:
            _start_health(health, worker)
        print(f"desist works on {worker.describe}", file=out or sys.stderr, flush=True)
        number = signals.get()
        interrupted = number == signal.SIGINT
        stopping = threading.Thread(
            target=_stop, args=(worker, interrupted, signals), name="desist-worker-stop", daemon=True
        )
        stopping.start()
        repeats = 0
        while signals.get() >= 0:  # -1: the worker has stopped
            worker.skip_drain()
            repeats += 1
            if repeats > 1:
                os._exit(INTERRUPTED if interrupted else 1)
        return INTERRUPTED if interrupted else 0
    finally:
        if health is not None:
            health.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


def _start_health(health: HealthFile, worker: Worker) -> None:
    try:
        health.start()
    except BaseException:
        worker.skip_drain()
        worker.stop()
        raise


def _stop(worker: Worker, interrupted: bool, signals: queue.SimpleQueue[int]) -> None:
    try:
        if interrupted:
            worker.skip_drain()
            worker.stop(Source.interrupt, "Ctrl-C")
        else:
            worker.stop(Source.shutdown, "SIGTERM")
    finally:
        signals.put(-1)
