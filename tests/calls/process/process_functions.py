"""What the tests run in worker processes. A door is the path of a Unix socket: a function says there that it is in."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from desist import RunCancelled, tool
from desist.tools import Toolkit
from desist.workflow import StepInput


def knock(door: str, word: str = "") -> None:
    """Tell the test that this process is here."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(door)
        line.sendall(f"{os.getpid()} {word}".encode())


def wait_at(door: str) -> None:
    """Wait until the test lets us in."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(door)
        line.sendall(str(os.getpid()).encode())
        line.shutdown(socket.SHUT_WR)
        line.recv(1)


def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


def where() -> tuple[int, int, int]:
    return os.getpid(), os.getppid(), os.getsid(0)


def world(name: str) -> tuple[str, str | None]:
    return os.getcwd(), os.environ.get(name)


def spoil() -> None:
    os.chdir("/")
    os.environ["DESIST_TEST_SPOILT"] = "yes"


def echo(value: Any) -> Any:
    return value


def give_lambda() -> Any:
    return lambda: None


def yield_lambda() -> Iterator[Any]:
    yield 1
    yield lambda: None


def printing() -> str:
    print("printed by the worker")
    os.write(1, b"written by the worker\n")
    return "said"


class Odd(Exception):
    """Can be pickled, but not built again."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"odd {a} {b}")


class Own(Exception):
    pass


def fail(kind: str) -> None:
    if kind == "own":
        raise Own("mine")
    if kind == "odd":
        raise Odd(1, 2)
    if kind == "exit":
        sys.exit(3)
    if kind == "interrupt":
        raise KeyboardInterrupt
    raise AssertionError(kind)


def crash(how: str) -> None:
    if how == "exit":
        os._exit(7)
    if how == "segfault":
        ctypes.string_at(0)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "term":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
    if how == "supervisor":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(30)
    if how == "close":
        os.closerange(3, 256)
        time.sleep(30)


def exhaust() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (256 * 2**20, hard))
    return len(bytearray(2**30))


def limit() -> int:
    return resource.getrlimit(resource.RLIMIT_AS)[0]


# -- work that a cancel meets


def sleeping(door: str) -> None:
    knock(door)
    time.sleep(30)


def hashing(door: str) -> None:
    knock(door)
    hashlib.pbkdf2_hmac("sha256", b"x", b"y", 2**31 - 1)


def backtracking(door: str) -> None:
    """Holds the GIL."""
    knock(door)
    re.match(r"(a+)+$", "a" * 64 + "b")


def summing(door: str) -> None:
    """Holds the GIL, and never looks for signals."""
    knock(door)
    sum(range(10**13))


def deaf(door: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    knock(door)
    while True:
        time.sleep(1)


def swallowing(door: str) -> None:
    knock(door)
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(30)


def cleaning(door: str, note: str) -> None:
    try:
        knock(door)
        time.sleep(30)
    except RunCancelled:
        Path(note).write_text("RunCancelled")
        raise
    finally:
        with open(note, "a") as file:
            file.write(" finally")


def slow_cleaning(door: str, note: str) -> None:
    try:
        knock(door)
        time.sleep(30)
    finally:
        time.sleep(0.15)
        Path(note).write_text("done")


FAMILY = "sleep 41 & (sleep 42 & ) ; setsid sleep 43 & setsid sh -c '(sleep 44 & ) ; exec sleep 45' & wait"


def parent_of_many(door: str) -> None:
    """Start a child, a double-forked orphan, a child in its own session, and an orphan in one."""
    knock(door)
    subprocess.run(["sh", "-c", FAMILY], check=False)


def streaming(door: str, note: str) -> Iterator[str]:
    try:
        yield "one "
        yield "two "
        knock(door)
        time.sleep(30)
        yield "three"
    finally:
        Path(note).write_text("finally")


def flooding(door: str, note: str) -> Iterator[str]:
    """Yield more than the socket holds: it waits in a send when the cancel comes."""
    try:
        knock(door)
        while True:
            yield "x" * 100_000
    finally:
        Path(note).write_text("finally")


def finishing(door: str, release: str, note: str) -> str:
    knock(door)
    wait_at(release)
    Path(note).write_text("finished")
    return "finished"


def leaving_a_child() -> int:
    return subprocess.Popen(["setsid", "sleep", "46"]).pid


def agent_inside(door: str) -> None:
    """Start a run in here."""
    from desist import Agent
    from desist.testing import Call, ScriptedModel

    def inner() -> None:
        knock(door, os.environ["DESIST_PARENT_RUN_ID"])
        time.sleep(30)

    Agent(ScriptedModel([Call("inner"), "never"]), tools=[inner]).run("go")


# -- the same as tools and steps


@tool(isolation="process")
def marked(a: int, b: int = 1) -> int:
    """Add.

    Args:
        a: one
        b: another
    """
    return a + b


@tool(isolation="process")
def remembering(session_state: dict[str, Any], dependencies: dict[str, Any] | None = None) -> str:
    """Change the copy of the state."""
    session_state["changed"] = True
    return f"{session_state} {dependencies}"


@tool(isolation="process")
def pieces() -> Iterator[str]:
    """Say something piece by piece."""
    yield "one "
    yield "two"


class Kit(Toolkit):
    def __init__(self, factor: int) -> None:
        self.factor = factor
        super().__init__("kit", tools=[self.times], isolation="process")

    def times(self, a: int) -> list[int]:
        """Multiply."""
        return [a * self.factor, os.getpid()]


class MarkedKit(Toolkit):
    def __init__(self) -> None:
        super().__init__("marked kit", isolation="process")

    @tool
    def pid(self) -> int:
        """Say where this is."""
        return os.getpid()


def step_pid(given: StepInput, session_state: dict[str, Any]) -> str:
    session_state["changed"] = True
    return f"{given.input} {given.previous_step_content} {os.getpid()}"


def asking_step(given: StepInput, run_context: Any) -> None:
    """Asks for what can't leave the process."""


async def async_step(given: StepInput) -> None:
    """Isn't sync."""


def deaf_step(door: str, given: StepInput) -> None:
    deaf(door)
