"""Check the features of Python and the system that cancels depend on, by using each of them."""

from __future__ import annotations

import platform
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator

from desist.calls.layers import Layer, add_audit_hook, available_layers
from desist.cli.checks.result import CheckResult, State

__all__ = ["machine"]


def machine() -> Iterator[CheckResult]:
    """Check Python and the system."""
    from importlib.metadata import version

    python = f"desist {version('desist')}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    old = sys.version_info < (3, 11)
    yield CheckResult("machine", "python", State.broken if old else State.ok, python)
    add_audit_hook(lambda event, args: None)  # whether a hook is accepted shows only then
    for layer in available_layers():
        state = State.ok if layer.works else State.weak
        yield CheckResult("machine", layer.name, state, layer.effect if layer.works else _explain(layer))
    for name, check, consequence in _CHECKS:
        try:
            found = check()
        except Exception as error:
            yield CheckResult("machine", name, State.weak, f"{consequence} ({type(error).__name__}: {error})")
        else:
            yield CheckResult("machine", name, State.ok, found)


def _explain(layer: Layer) -> str:
    return f"{layer.consequence} ({layer.missing})"


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
    ("unix datagrams", _datagram, "a cancel from another process is detected by polling, within 0.25 s"),
    ("sqlite", _sqlite, "SqliteDb doesn't work"),
)
