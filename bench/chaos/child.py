"""A process of the harness, seen from the controller: orders go in as lines, signals and ends are its own business."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["Child"]

#: The folder from which `bench` can be imported.
ROOT = Path(__file__).parents[2]


class Child:
    """A program of this package in a process of its own. What it prints is kept in a file, by its name."""

    def __init__(self, program: str, name: str, folder: Path, *arguments: str) -> None:
        self.name = name
        self.printed = folder / f"{name}.out"
        command = [sys.executable, "-W", "error", "-m", f"bench.chaos.{program}", *arguments]
        with open(self.printed, "ab") as out:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=out, stderr=out, cwd=ROOT, start_new_session=True
            )
        assert self.process.stdin is not None
        os.set_blocking(self.process.stdin.fileno(), False)  # one that is frozen must not hold up the controller

    def tell(self, do: str, **order: Any) -> bool:
        """Give an order; return whether it could be given."""
        assert self.process.stdin is not None
        try:
            os.write(self.process.stdin.fileno(), (json.dumps({"do": do, **order}) + "\n").encode())
        except (OSError, ValueError):  # it is being killed, or doesn't read
            return False
        return True

    def kill(self) -> None:
        """End it as the machine's lack of memory would."""
        self.process.kill()
        self.process.wait()
        self.let_go()

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, for so many seconds; return whether it has."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def freeze(self) -> None:
        """Let it do nothing any more."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on as if nothing had happened."""
        os.kill(self.process.pid, signal.SIGCONT)

    def close(self, patience: float) -> bool:
        """Wait for so many seconds until it has ended, as it was told; return whether it did. Else it is killed."""
        self.let_go()
        ended = self.wait(patience)
        if not ended:
            self.kill()
        return ended

    def let_go(self) -> None:
        """Tell it to end: there will be no more orders."""
        assert self.process.stdin is not None
        if not self.process.stdin.closed:
            self.process.stdin.close()
