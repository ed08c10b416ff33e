"""Another process on the same database, which obeys commands and reports: see `database_worker_program`."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("database_worker_program.py")
PATIENCE = 100.0


class Worker:
    """Another process on the same database."""

    def __init__(self, place: str, *prefix: str, program: Path = PROGRAM) -> None:
        command = [*prefix, sys.executable, "-W", "error", str(program), place]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._said: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._kept: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.hear("ready")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put(json.loads(line))
        self._said.put(None)

    def tell(self, do: str, run_id: str, **more: Any) -> None:
        """Give an order."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, "id": run_id, **more}) + "\n")
        self.process.stdin.flush()

    def hear(self, what: str, run_id: str | None = None) -> dict[str, Any]:
        """Wait until it says this, of this run."""
        while True:
            for said in self._kept:
                if what in said and run_id in (None, said[what]):
                    self._kept.remove(said)
                    return said
            new = self._said.get(timeout=PATIENCE)
            assert new is not None, f"the worker ended before it said {what!r}"
            self._kept.append(new)

    def start(self, kind: str, run_id: str, **more: Any) -> dict[str, Any]:
        """Have it work on a run, and wait until that has come to where it waits; return what it says then."""
        self.tell("run", run_id, kind=kind, **more)
        return self.hear("at", run_id)

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def wait_stopped(self) -> None:
        """Wait until it stands still."""
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            assert self.process.stdin is not None
            self.process.stdin.close()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()
        self._reader.join(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None and not pipe.closed:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass
