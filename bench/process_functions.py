"""What `bench.process` runs in worker processes. Imports nothing of desist."""

from __future__ import annotations

import hashlib
import signal
import socket
import subprocess
import time

__all__ = ["deaf", "echo", "family", "hashing", "looping", "sleeping", "summing"]


def echo(value: bytes) -> bytes:
    """Return what is given."""
    return value


def _knock(door: str) -> None:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(door)


def sleeping(door: str) -> None:
    """Sleep; hears SIGTERM."""
    _knock(door)
    time.sleep(30)


def looping(door: str) -> None:
    """A loop in Python; hears SIGTERM."""
    _knock(door)
    while True:
        pass


def hashing(door: str) -> None:
    """A C call without the GIL; its SIGTERM waits."""
    _knock(door)
    hashlib.pbkdf2_hmac("sha256", b"x", b"y", 2**31 - 1)


def summing(door: str) -> None:
    """A C call with the GIL; never looks for signals."""
    _knock(door)
    sum(range(10**13))


def deaf(door: str) -> None:
    """Ignores SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _knock(door)
    time.sleep(30)


def family(door: str) -> None:
    """Has a child, an orphan, and both in sessions of their own."""
    command = "sleep 41 & (sleep 42 & ) ; setsid sleep 43 & setsid sh -c '(sleep 44 & ) ; exec sleep 45' & wait"
    with subprocess.Popen(["sh", "-c", command]):
        _knock(door)
