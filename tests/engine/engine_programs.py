"""The programs in `examples/engines` as processes of a test, with a Redis of its own and a story that obeys a test."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from postgres_databases import missing

from desist import Step, Workflow
from desist.db import SqliteDb

PATIENCE = 50.0
ENGINES = Path(__file__).parents[2] / "examples" / "engines"
STORY = Path(__file__).with_name("engines")


class Redis:
    """A Redis server on loopback, without a file."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            missing("redis", "Redis isn't installed (Debian: redis-server)")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = taken.getsockname()[1]
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(
            [str(program), *options, "--dir", str(folder)], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
        )
        assert self.process.stdout is not None
        while "eady to accept connections" not in (line := self.process.stdout.readline()):
            assert line, "Redis didn't start"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def close(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)


class Programs:
    """Programs of one engine: `start` for a worker, `call` for a program that ends; and what their story does."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        paths = os.pathsep.join([str(STORY), str(ENGINES)])  # the test's story comes first
        self.environment = {**os.environ, "STORY_FOLDER": str(folder), "PYTHONPATH": paths, **environment}
        self._started: list[subprocess.Popen[bytes]] = []
        self.db = SqliteDb(db_url=f"sqlite:///{folder}/runs.db", timeout=20)
        steps = [Step(name, executor=lambda given: "here") for name in ("outline", "write")]
        self.story = Workflow("Story", steps=steps, db=self.db, on_crash="resume")

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a worker in a process group of its own."""
        with (self.folder / "log").open("ab") as log:
            made = subprocess.Popen(
                [sys.executable, *command],
                stdout=log,
                stderr=log,
                env=self.environment,
                cwd=self.folder,
                start_new_session=True,
            )
        self._started.append(made)
        return made

    def call(self, code: str) -> str:
        """Execute code in a program with the modules of the examples; return what it prints."""
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def wait_writing(self, count: int = 1) -> list[int]:
        """Wait until so many processes have come to the second step; return their ids, the last one at the end."""
        self._wait(lambda: len(list(self.folder.glob("write.*"))) >= count)
        found = sorted(self.folder.glob("write.*"), key=lambda path: path.stat().st_mtime_ns)
        return [int(path.suffix[1:]) for path in found]

    def wait_stored(self, run_id: str) -> None:
        """Wait until the first step of a run is stored."""
        self._wait(lambda: bool(self.db.get_run(run_id).step_results))

    def _wait(self, holds: Any) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def let_on(self) -> None:
        (self.folder / "open").touch()

    @property
    def cleaned(self) -> bool:
        return (self.folder / "cleaned").exists()

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def wait_log(self, words: str, count: int = 1) -> None:
        self._wait(lambda: self.log().count(words) >= count)

    def result(self, run_id: str) -> Any:
        try:
            return self.story.submitted(run_id).result(PATIENCE)
        except TimeoutError:
            raise AssertionError(self.log()) from None

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)
        self.db.close()
