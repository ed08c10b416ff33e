"""Helpers of the command line's tests: `desist` as a process, runs of other processes, servers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from desist import Step, Workflow
from desist.db import SqliteDb

DESIST = [sys.executable, "-c", "from desist.cli import main; main()"]
PROGRAM = str(Path(__file__).with_name("cli_program.py"))
HANG = 40.0
#: A command in the process of the tests: exit code, standard output, standard error.
Call = Callable[..., tuple[int, str, str]]
_OURS = ("DESIST_DB", "DESIST_SERVER", "DESIST_TOKEN")


def environment(more: dict[str, str]) -> dict[str, str]:
    return {**{name: value for name, value in os.environ.items() if name not in _OURS}, **more}


def ended(path: Path, name: str = "Fast", **more: Any) -> str:
    """Store a run that has ended, and return its id."""
    db = SqliteDb(path)
    workflow = Workflow(name, steps=[Step("one", executor=lambda given: "done")], db=db)
    run_id = workflow.run("x", **more).run_id
    db.close()
    return str(run_id)


def recorded(path: Path, run_id: str, status: str) -> None:
    """Wait until a run is stored with a status: an event is printed before it is stored."""
    db, end = SqliteDb(path), time.monotonic() + HANG
    try:
        while (run := db.get_run(run_id)) is None or run.status.value != status:
            assert time.monotonic() < end, f"{run_id} is {run and run.status}, not {status}"
    finally:
        db.close()


class Program:
    """A command in a process of its own."""

    def __init__(self, *arguments: str, ignoring: int | None = None, **more: str) -> None:
        start = [] if ignoring is None else ["sh", "-c", f"trap '' {ignoring}; exec \"$@\"", "sh"]
        self.process = subprocess.Popen(
            [*start, *DESIST, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
            env=environment(more),
        )
        self._out = b""

    @property
    def shown(self) -> str:
        """The standard output so far."""
        return self._out.decode(errors="ignore")

    def until(self, words: str) -> str:
        """Read until the output contains `words`; return the output so far."""
        while words not in self.shown:
            self._read()
        return self.shown

    def _read(self) -> None:
        assert self.process.stdout is not None and self.process.stderr is not None
        piece = os.read(self.process.stdout.fileno(), 65536)
        assert piece, f"it has ended: {self.shown} {self.process.stderr.read().decode()}"
        self._out += piece

    def line(self) -> dict[str, Any]:
        """Read until the output contains a line of JSON; return the first one. Programs may print other lines."""
        while not (found := re.search(r"^(\{.*\})\n", self.shown, re.MULTILINE)):
            self._read()
        return dict(json.loads(found[1]))

    def errors_until(self, words: str) -> None:
        """Read until standard error contains `words`."""
        assert self.process.stderr is not None
        found = ""
        while words not in found:
            piece = os.read(self.process.stderr.fileno(), 65536).decode()
            assert piece, f"it ended without {words!r}: {found}"
            found += piece

    def signal(self, number: int = signal.SIGINT) -> None:
        os.kill(self.process.pid, number)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; return the exit code, standard output and standard error."""
        out, errors = self.process.communicate(timeout=HANG)
        self._out += out
        return self.process.returncode, self.shown, errors.decode()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@contextlib.contextmanager
def elsewhere(db: Path, name: str = "story", moment: str = "upon") -> Iterator[tuple[Program, str]]:
    """Start a run in another process and wait until its output contains `moment`; yield the process and the run id."""
    with Program("run", f"{PROGRAM}:{name}", "go", "--json", "--db", str(db)) as program:
        run_id = str(program.line()["run_id"])
        program.until(moment)
        recorded(db, run_id, "RUNNING")
        yield program, run_id


@contextlib.contextmanager
def serving(*names: str, **more: str) -> Iterator[tuple[Program, str]]:
    """Serve workflows and agents of the program; yield the process and the URL."""
    port = more.pop("port", "0")
    options = [part for name, value in more.items() if name in ("db", "token") for part in (f"--{name}", value)]
    with Program("serve", *(f"{PROGRAM}:{name}" for name in names), "--port", port, *options) as program:
        assert program.process.stderr is not None
        first = b""
        while not first.endswith(b"\n"):
            piece = program.process.stderr.read(1)
            assert piece, f"it doesn't serve: {first!r}"
            first += piece
        yield program, first.decode().rpartition(" ")[2].strip()
