"""Whole programs that use worker processes: their main module, their output, their end by any means."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from process_census import PATIENCE, wait_gone

HEAD = """
import asyncio, os, sys
import process_functions as functions
from desist.calls.process import run_in_process
"""


@pytest.fixture(autouse=True)
def functions_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs import `process_functions` of this folder."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def program(tmp_path: Path, text: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    path = tmp_path / "program.py"
    path.write_text(HEAD + text)
    return subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=PATIENCE, **options)


def test_output_is_inherited(tmp_path: Path) -> None:
    """stdout and stderr of a worker are the program's, and never mix with what it answers."""
    done = program(tmp_path, "print(asyncio.run(run_in_process(functions.printing, name='printing')))")
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["written by the worker", "printed by the worker", "said"] or (
        done.stdout.splitlines() == ["printed by the worker", "written by the worker", "said"]
    )


def test_functions_and_classes_of_the_main_module(tmp_path: Path) -> None:
    """A worker imports the main module under another name: guarded code doesn't run again."""
    done = program(
        tmp_path,
        """
class Pair:
    def __init__(self, a): self.a = a
def swap(pair):
    assert isinstance(pair, Pair)
    return Pair(-pair.a)
if __name__ == "__main__":
    print("once")
    back = asyncio.run(run_in_process(swap, (Pair(3),), name="swap"))
    print(type(back) is Pair, back.a)
""",
    )
    assert (done.stdout, done.stderr) == ("once\nTrue -3\n", "")


def test_a_main_module_without_its_guard(tmp_path: Path) -> None:
    """Without the guard the worker would start the program again: the error says what to write."""
    done = program(tmp_path, "def one(): return 1\nprint(asyncio.run(run_in_process(one, name='one')))")
    assert done.returncode == 1 and done.stdout == ""
    assert 'if __name__ == "__main__":' in done.stderr


def test_an_interactive_main_module() -> None:
    """What no other process can import is refused with the reason."""
    text = HEAD + "def one(): return 1\nasyncio.run(run_in_process(one, name='one'))"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=PATIENCE)
    assert "interactive session" in done.stderr and "ConfigurationError" in done.stderr


def test_workers_end_with_the_program(tmp_path: Path) -> None:
    """When the interpreter ends its idle workers are gone before it, quietly."""
    done = program(tmp_path, "print(*asyncio.run(run_in_process(functions.where, name='where')))")
    pid, supervisor, _ = map(int, done.stdout.split())
    assert done.stderr == ""
    assert wait_gone(pid) and wait_gone(supervisor)


def test_kill_9_of_the_program(tmp_path: Path, door: Any) -> None:
    """A program that is killed takes its workers along, also one that holds the GIL, and what they started."""
    path = tmp_path / "program.py"
    path.write_text(
        HEAD
        + f"""
async def main():
    await asyncio.gather(
        run_in_process(functions.summing, ({door.path!r},), name="summing"),
        run_in_process(functions.parent_of_many, ({door.path!r},), name="many"),
        run_in_process(functions.deaf, ({door.path!r},), name="deaf"),
    )
asyncio.run(main())
"""
    )
    with subprocess.Popen([sys.executable, str(path)]) as running:
        pids = [door.answer()[0] for _ in range(3)]
        running.send_signal(signal.SIGKILL)
    assert all(wait_gone(pid) for pid in pids)


def test_a_run_that_is_live_at_the_end(tmp_path: Path, door: Any) -> None:
    """A program that ends while a run has work in a process: the run is cancelled, then the process is gone."""
    path = tmp_path / "program.py"
    path.write_text(
        HEAD
        + f"""
import threading
from desist import Step, Workflow
import functools
step = Step("deaf", executor=functools.partial(functions.deaf_step, {door.path!r}), isolation="process")
run = Workflow("w", steps=[step]).run("go", stream=True)
print(run.run_id, flush=True)
sys.stdin.read(1)
"""
    )
    with subprocess.Popen([sys.executable, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        pid, _ = door.answer()
        running.communicate(b"x", timeout=PATIENCE)
    assert running.returncode == 0
    assert wait_gone(pid)
