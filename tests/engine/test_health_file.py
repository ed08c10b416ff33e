"""The health file of a worker: there while it works, touched by the loop that executes the runs."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from engine_process import PATIENCE, WorkerProcess

from desist.engine.health_file import HealthFile
from desist.exceptions import ConfigurationError
from desist.runtime.background_loop import background_loop


def _wait_touched(path: Path) -> None:
    os.utime(path, (0, 0))
    while path.stat().st_mtime == 0:
        time.sleep(0.005)


def test_the_file_of_a_worker(tmp_path: Path) -> None:
    """The file exists when the worker works, and no more when it has ended at SIGTERM."""
    path = tmp_path / "health"
    worker = WorkerProcess("command", f"sqlite:///{tmp_path}/runs.db", "simple", **{"health-file": path})
    try:
        worker.wait_ready()
        assert path.read_text() == f"{worker.process.pid}\n"
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(PATIENCE) == 0 and not path.exists()
    finally:
        worker.close()


def test_a_loop_that_hangs(tmp_path: Path) -> None:
    """The file is touched again and again, not while the loop of the runs hangs, and not after the end."""
    path, hang = tmp_path / "health", threading.Event()
    health = HealthFile(path, interval=0.01)
    health.start()
    _wait_touched(path)
    hangs = threading.Event()
    background_loop.loop().call_soon_threadsafe(lambda: (hangs.set(), hang.wait(PATIENCE)))
    assert hangs.wait(PATIENCE)
    os.utime(path, (0, 0))
    time.sleep(0.1)
    assert path.stat().st_mtime == 0
    hang.set()
    _wait_touched(path)
    health.stop()
    assert not path.exists()


def test_a_file_that_can_t_be_written(tmp_path: Path) -> None:
    """A path that can't be written is an error that says so."""
    with pytest.raises(ConfigurationError, match=r"the health file .*nowhere/health can't be written"):
        HealthFile(tmp_path / "nowhere" / "health").start()
