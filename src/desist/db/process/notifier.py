"""`Notifier`: how processes notify each other: one thread and one Unix datagram socket for all databases of a process.

A datagram says only that there is something to read; the database has the content. So a lost one costs only time, and a
forged one only a read. The thread also polls at intervals. It starts with the first run or request that needs it,
starts again in a forked child, and ends with the interpreter. Without such sockets (systems other than Linux) there is
only the polling.

Threads: `poll` of the pollables is called by this thread only. All other methods may be called from any thread.
"""

from __future__ import annotations

import logging
import math
import select
import socket
import sys
import threading
import time
import weakref
from typing import Protocol

from desist.runtime.background_loop import register_at_exit
from desist.runtime.daemon_thread import start_daemon_thread
from desist.runtime.fork_hooks import register_at_fork

__all__ = ["Notifier", "channel"]

log = logging.getLogger("desist.db")

#: Seconds without anything to poll after which the thread ends. The next `register` starts another.
IDLE = 5.0
#: Seconds between two polls of a process that can't be notified.
UNNOTIFIED = 0.02


class Pollable(Protocol):
    """An object that is polled."""

    def poll(self, woken: bool) -> float:
        """Do what is due; return when to poll again, in seconds of `time.monotonic`. `woken`: this process was
        notified.
        """

    def reset_after_fork(self) -> None:
        """Forget everything, in a forked child."""


class Notifier:
    """The thread, its socket, and the objects that it polls. It refers to those weakly."""

    def __init__(self) -> None:
        self._pollables: weakref.WeakSet[Pollable] = weakref.WeakSet()
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._ending = False
        self.address = ""  #: of this process; "" if it can't be notified

    def register(self, pollable: Pollable) -> None:
        """Poll an object from now on. Idempotent."""
        with self._lock:
            if self._ending:
                return
            self._pollables.add(pollable)
            if self._thread is None:
                self._open()
                self._thread = start_daemon_thread(self._run, "desist-channel")

    def unregister(self, pollable: Pollable) -> None:
        """Stop polling an object."""
        with self._lock:
            self._pollables.discard(pollable)
        self.notify_self()

    def _open(self) -> None:
        if self._socket is not None or not sys.platform.startswith("linux"):
            return
        try:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        except OSError as error:
            log.warning("this process can't be notified by others, and polls: %s", error)
            return
        try:
            made.bind("")  # the system chooses a name, which ends with the process
            made.setblocking(False)
            self._socket, self.address = made, made.getsockname().hex()
        except OSError as error:
            log.warning("this process can't be notified by others, and polls: %s", error)
            made.close()

    def notify(self, address: str) -> bool:
        """Make another process poll; return False if that process has ended.

        If the datagram is lost, that process polls at its next interval.
        """
        ours = self._socket
        if ours is None or not address:
            return True
        try:
            ours.sendto(b"look", bytes.fromhex(address))
        except ConnectionRefusedError:
            return False
        except (OSError, ValueError) as error:
            log.debug("%s could not be notified: %s", address, error)
        return True

    def notify_self(self) -> None:
        """Make this process poll."""
        self.notify(self.address)

    # -- the thread

    def _run(self) -> None:
        ours = self._socket
        needed_at = time.monotonic()
        woken = True
        while not self._ending:
            next_at = self._poll(woken)
            now = time.monotonic()
            if next_at < math.inf or woken:
                needed_at = now
            elif now - needed_at >= IDLE:
                with self._lock:
                    self._thread = None
                return
            pause = max(0.0, min(next_at - now, IDLE))
            woken = self._wait(ours, pause)

    def _poll(self, woken: bool) -> float:
        next_at = math.inf
        for pollable in list(self._pollables):
            try:
                next_at = min(next_at, pollable.poll(woken))
            except Exception:  # a bug in one must not stop the polling of others
                log.exception("bug in desist: polling failed")
                next_at = min(next_at, time.monotonic() + 1.0)
        return next_at

    def _wait(self, ours: socket.socket | None, pause: float) -> bool:
        """Wait for a datagram; return whether one came. Many count as one."""
        if ours is None:
            time.sleep(min(pause, UNNOTIFIED))
            return True
        ready = select.poll()
        ready.register(ours, select.POLLIN)
        received = bool(ready.poll(pause * 1000 + 0.999))
        try:
            while received:
                ours.recv(64)
        except OSError:
            pass
        return received

    # -- the ends

    def close(self) -> None:
        """End the thread and close the socket, when the interpreter exits."""
        with self._lock:
            self._ending, thread = True, self._thread
        self.notify_self()
        if thread is not None and thread is not threading.current_thread():
            thread.join(1.0)
        if self._socket is not None:
            self._socket.close()

    def reset_after_fork(self) -> None:
        """Start anew in a forked child: the address is its parent's."""
        inherited = self._socket
        self._reset()
        if inherited is not None:
            inherited.close()
        for pollable in list(self._pollables):
            pollable.reset_after_fork()
        self._pollables.clear()


#: The notifier of this process.
channel = Notifier()
register_at_exit(channel.close)
register_at_fork(after_in_child=channel.reset_after_fork)
