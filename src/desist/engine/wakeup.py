"""How the thread of a worker waits: for new runs, for places, or for its next task.

SQLite: a Unix datagram, sent after the commit of the submission. Postgres: a notification that is part of it, on the
connection that holds the liveness lock. Where neither works (behind a pooler, on other systems), the thread polls.

Threads: `wait`, `open` and `close` are called by the worker's thread, `wake` by any thread.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from typing import Protocol

from desist.engine.liveness_lock import LivenessLock

__all__ = ["DatagramWakeup", "NotifyWakeup", "Wakeup"]


class Wakeup(Protocol):
    """Wakes one thread."""

    address: str  #: where other processes notify this worker; "" if they can't

    def open(self) -> None:
        """Begin to receive notifications. Idempotent: called again after a connection was lost."""

    def wait(self, seconds: float) -> bool:
        """Wait for a notification, a `wake`, or so many seconds; return whether other processes have notified."""

    def wake(self) -> None:
        """End the wait now, or the next one."""

    def close(self) -> None:
        """Close what waiting needs."""


class _Pipe:
    """Ends waits from other threads of this process."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        return self._read

    def wake(self) -> None:
        try:
            os.write(self._write, b"x")
        except OSError:  # full, so the wait will end; or closed
            pass

    def drain(self) -> None:
        try:
            while os.read(self._read, 4096):
                pass
        except OSError:
            pass

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


class DatagramWakeup:
    """Notified by datagrams of other processes on this machine."""

    def __init__(self) -> None:
        self._pipe = _Pipe()
        self._socket: socket.socket | None = None
        self.address = ""

    def open(self) -> None:
        """Bind the socket."""
        if self._socket is not None or not sys.platform.startswith("linux"):
            return
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        made.bind("")  # the system chooses a name, which ends with the process
        made.setblocking(False)
        self._socket, self.address = made, made.getsockname().hex()

    def wait(self, seconds: float) -> bool:
        """Wait. See `Wakeup`."""
        sources = [self._pipe.fileno(), *([self._socket.fileno()] if self._socket is not None else [])]
        ready = _ready(sources, seconds)
        self._pipe.drain()
        notified = self._socket is not None and self._socket.fileno() in ready
        try:
            while notified and self._socket is not None:
                self._socket.recv(64)
        except OSError:
            pass
        return notified

    def wake(self) -> None:
        """End the wait."""
        self._pipe.wake()

    def close(self) -> None:
        """Close the socket and the pipe."""
        if self._socket is not None:
            self._socket.close()
        self._pipe.close()


class NotifyWakeup:
    """Notified by the Postgres server.

    Parameters:
        lock: has the connection; None behind a pooler, where nothing is received.
        process: the holder of the lock.
    """

    def __init__(self, lock: LivenessLock | None, process: str) -> None:
        self._lock, self._process = lock, process
        self._pipe = _Pipe()
        self.address = f"desist_{os.urandom(10).hex()}" if lock is not None else ""

    def open(self) -> None:
        """Connect, take the lock, and listen."""
        if self._lock is not None:
            self._lock.hold(self._process, self.address)

    def wait(self, seconds: float) -> bool:
        """Wait. See `Wakeup`."""
        if self._lock is not None and self._lock.received():  # while a statement was executed
            return True
        socket = self._lock.fileno() if self._lock is not None else None
        ready = _ready([self._pipe.fileno(), *([socket] if socket is not None else [])], seconds)
        self._pipe.drain()
        return self._lock is not None and socket in ready and self._lock.received()

    def wake(self) -> None:
        """End the wait."""
        self._pipe.wake()

    def close(self) -> None:
        """Release the lock, and close the connection."""
        if self._lock is not None:
            self._lock.close()
        self._pipe.close()


def _ready(sources: list[int], seconds: float) -> set[int]:
    waiting = select.poll()
    for source in sources:
        waiting.register(source, select.POLLIN)
    return {source for source, _ in waiting.poll(max(0.0, seconds) * 1000)}
