"""Guarantee 9. Any time: a real task queue ends the task that waits for a run, from outside, by a signal."""

from __future__ import annotations

import importlib.util
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from desist.db import SqliteDb

if importlib.util.find_spec("celery") is None:
    pytest.skip("Celery isn't installed: it is in the dependency group dev", allow_module_level=True)

PATIENCE = 100
APP = Path(__file__).parent / "task_queue_app.py"


class Queue:
    """A Celery worker with one child process, its queue in a folder, and what the task says."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said = folder, ""
        for name in ("queue", "control"):
            (folder / name).mkdir()
        self._environment = {**os.environ, "QUEUE_FOLDER": str(folder), "PYTHONPATH": str(APP.parent)}
        command = ["-m", "celery", "-A", APP.stem, "worker", "--pool", "prefork", "--concurrency", "1", "-l", "WARNING"]
        options = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-n", "worker@localhost"]
        self.process = subprocess.Popen(
            [sys.executable, *command, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._environment,
            start_new_session=True,
        )

    def order(self, *words: str) -> None:
        """Send a task or revoke one, as another program."""
        subprocess.run([sys.executable, str(APP), *words], check=True, timeout=PATIENCE, env=self._environment)

    def wait_said(self, word: str) -> None:
        assert self.process.stdout is not None
        while word not in self.said:
            assert select.select([self.process.stdout], [], [], PATIENCE)[0], self.said
            heard = os.read(self.process.stdout.fileno(), 4096)
            assert heard, self.said
            self.said += heard.decode()


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    """A worker that waits for tasks."""
    made = Queue(tmp_path)
    yield made
    os.killpg(made.process.pid, signal.SIGKILL)  # with its child
    made.process.communicate(timeout=PATIENCE)


@pytest.mark.parametrize(
    ("number", "error", "source"),
    [("SIGTERM", "SystemExit", "shutdown"), ("SIGUSR1", "SoftTimeLimitExceeded", "consumer_closed")],
)
def test_a_revoked_task(number: str, error: str, source: str, queue: Queue) -> None:
    """`revoke(terminate=True)`, and the signal of a soft time limit: the run is cleaned up and stored as cancelled
    before the task's exception goes on."""
    queue.order("send", "r")
    queue.wait_said("READY")
    queue.order("revoke", "r", number)
    queue.wait_said(f"RAISED {error}")
    assert queue.said.index("HOOK") < queue.said.index("RAISED") and "NEXT STEP" not in queue.said
    database = SqliteDb(str(queue.folder / "runs.db"))
    stored = database.get_run("r")
    database.close()
    assert (stored.status, stored.cancel.source.value, stored.content) == ("CANCELLED", source, "some text ")
    assert error in stored.cancel.reason and stored.cancel.abandoned == []
