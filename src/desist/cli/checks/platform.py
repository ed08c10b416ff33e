"""Check the features of Python and the system that cancels depend on, by using each of them."""

from __future__ import annotations

import os
import platform
import signal
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator

from desist.cli.checks.result import CheckResult, State

__all__ = ["machine"]


def machine() -> Iterator[CheckResult]:
    """Check Python and the system."""
    from importlib.metadata import version

    python = f"desist {version('desist')}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    old = sys.version_info < (3, 11)
    yield CheckResult("machine", "python", State.broken if old else State.ok, python)
    for name, check, consequence in _CHECKS:
        try:
            found = check()
        except Exception as error:
            yield CheckResult("machine", name, State.weak, f"{consequence} ({type(error).__name__}: {error})")
        else:
            yield CheckResult("machine", name, State.ok, found)


def _pidfd() -> str:
    os.close(os.pidfd_open(os.getpid()))
    return "the end of child processes is detected at once"


def _check_audit_hook() -> str:
    if not callable(sys.addaudithook):
        raise OSError("no audit hooks")
    return "a thread blocked on a socket or a child process can be interrupted"


def _raise_in_thread() -> str:
    import ctypes

    if not hasattr(ctypes.pythonapi, "PyThreadState_SetAsyncExc"):
        raise OSError("not this Python")
    return "a thread in Python code can be interrupted"


def _datagram() -> str:
    if sys.platform != "linux":
        raise OSError("no abstract names for sockets")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind("")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.sendto(b"x", one.getsockname())
        one.settimeout(5)
        one.recv(1)
    return "processes on one SQLite file wake each other"


def _groups() -> str:
    os.getpgid(0)
    if not hasattr(signal, "SIGKILL"):
        raise OSError("no SIGKILL")
    return "process tools can be killed with their children"


def _sqlite() -> str:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE TABLE t (a); ").fetchall()
        connection.execute("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING RETURNING a").fetchall()
    finally:
        connection.close()
    return f"SQLite {sqlite3.sqlite_version}"


#: The name of a feature, a function that tries it, and the consequence of its absence.
_CHECKS: tuple[tuple[str, Callable[[], str], str], ...] = (
    ("pidfd", _pidfd, "the end of child processes is detected by polling"),
    ("audit hooks", _check_audit_hook, "a thread blocked on a socket or a child process can't be interrupted"),
    ("thread interrupts", _raise_in_thread, "a thread in Python code can't be interrupted and is abandoned"),
    ("unix datagrams", _datagram, "a cancel from another process is detected by polling, within 0.25 s"),
    ("process groups", _groups, "isolation='process' doesn't work"),
    ("sqlite", _sqlite, "SqliteDb doesn't work"),
)
