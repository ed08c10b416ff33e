"""Workers as processes: `desist worker`, or a program that has one. They do as they are told, and say what they do."""

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

PROGRAM = Path(__file__).with_name("engine_program.py")
PATIENCE = 100.0


class WorkerProcess:
    """A process that works.

    Parameters:
        kind: "command" for `desist worker`, "embedded" for a program that has a `Worker`.
        url: the database.
        names: the workflows that it has.
        ears: where to put what it says, too, with itself.
        env: more of its environment.
        how: its options.
    """

    def __init__(
        self,
        kind: str,
        url: str,
        *names: str,
        ears: queue.Queue[Any] | None = None,
        env: dict[str, str] | None = None,
        **how: Any,
    ) -> None:
        self.kind, self._ears = kind, ears
        start = ["-c", "from desist.cli import main; main()", "worker"] if kind == "command" else [str(PROGRAM)]
        what = [f"{PROGRAM}:{name}" for name in names] if kind == "command" else names
        options = [f"--{name}={value}" for name, value in how.items()]
        env = {**os.environ, "DESIST_DB": url, "PYTHONPATH": str(PROGRAM.parent), **(env or {})}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", *start, *what, *options],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
            env=env,
        )
        self._said: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.heard: list[dict[str, Any]] = []  #: all that it has said, as far as that was heard
        self._kept: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._ready = threading.Event()
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put(json.loads(line))
            if self._ears is not None:
                self._ears.put((self, json.loads(line)))
        self._said.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors.append(line)
            if line.startswith("desist works"):
                self._ready.set()
        self._ready.set()

    def wait_ready(self) -> WorkerProcess:
        """Wait until it works."""
        assert self._ready.wait(PATIENCE)
        assert self.process.poll() is None, "".join(self.errors)
        return self

    def _next(self, timeout: float = PATIENCE) -> None:
        new = self._said.get(timeout=timeout)
        assert new is not None, f"the worker ended too early: {''.join(self.errors)}"
        self.heard.append(new)
        self._kept.append(new)

    def hear(self, what: str, run_id: str | None = None) -> dict[str, Any]:
        """Wait until it says this, of this run."""
        while True:
            for said in self._kept:
                if what in said and run_id in (None, said[what]):
                    self._kept.remove(said)
                    return said
            self._next()

    def steps_of(self, run_id: str, count: int = 0) -> list[str]:
        """Return the steps of a run that have begun here; wait for so many."""
        while True:
            steps = [said["step"] for said in self.heard if said.get("ran") == run_id]
            if len(steps) >= count:
                return steps
            self._next()

    def tell(self, *words: str) -> None:
        """Tell it something."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()

    def leave(self) -> None:
        """Have it leave in order, without waiting for that."""
        if self.kind == "command":
            self.process.send_signal(signal.SIGTERM)
        else:
            self.tell("leave")

    def ended(self) -> int:
        """Wait until it has ended; return its exit code."""
        code = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        while not self._said.empty():
            if (said := self._said.get()) is not None:
                self.heard.append(said)
                self._kept.append(said)
        return code

    def kill(self) -> None:
        self.process.kill()
        self.ended()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass
