"""How processes wake one another: one thread and one Unix datagram socket a process, for all its shared databases.

A datagram says nothing but "look": what there is to see stands in the database. So a lost one costs only time, a forged
one only a look. The thread also looks by itself, now and then. It starts with the first run or request that needs it,
starts anew in a forked child, and ends with the interpreter. Without such sockets (other systems than Linux) looking
now and then is all there is.
"""

from __future__ import annotations

import logging
import math
import os
import select
import socket
import sys
import threading
import time
import weakref
from typing import Protocol

from desist.runtime.background_loop import register_at_exit
from desist.runtime.daemon_thread import start_daemon

__all__ = ["Notifier", "channel"]

log = logging.getLogger("desist.db")

#: Seconds without anything to look after, after which the thread ends. The next run starts another.
IDLE = 5.0
#: Seconds between two looks where nobody can be woken.
DEAF = 0.02


class Pollable(Protocol):
    """Who is asked to look."""

    def poll(self, woken: bool) -> float:
        """Do what is due; return when to look again, in seconds of `time.monotonic`."""

    def reset_after_fork(self) -> None:
        """Forget everything, in a forked child."""


class Notifier:
    """The thread, its socket, and on whose behalf it looks."""

    def __init__(self) -> None:
        self._attended: weakref.WeakSet[Pollable] = weakref.WeakSet()
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._ending = False
        self.address = ""  #: where this process is woken; "" if it can't be

    def register(self, who: Pollable) -> None:
        """Look on somebody's behalf from now on."""
        with self._lock:
            if self._ending:
                return
            self._attended.add(who)
            if self._thread is None:
                self._open()
                self._thread = start_daemon(self._run, "desist-channel")

    def unregister(self, who: Pollable) -> None:
        """Look on somebody's behalf no more."""
        with self._lock:
            self._attended.discard(who)
        self.notify_self()

    def _open(self) -> None:
        if self._socket is not None or not sys.platform.startswith("linux"):
            return
        try:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        except OSError as error:
            log.warning("this process can't be woken by others, and looks for itself: %s", error)
            return
        try:
            made.bind("")  # the system gives it a name of its own, which ends with the process
            made.setblocking(False)
            self._socket, self.address = made, made.getsockname().hex()
        except OSError as error:
            log.warning("this process can't be woken by others, and looks for itself: %s", error)
            made.close()

    def notify(self, address: str) -> None:
        """Have another process look. If it doesn't hear that, it looks by itself, later."""
        ours = self._socket
        if ours is None or not address:
            return
        try:
            ours.sendto(b"look", bytes.fromhex(address))
        except (OSError, ValueError) as error:
            log.debug("%s could not be woken: %s", address, error)

    def notify_self(self) -> None:
        """Have this process look."""
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
        for who in list(self._attended):
            try:
                next_at = min(next_at, who.poll(woken))
            except Exception:  # a mistake of ours must not leave others unheard
                log.exception("looking after runs failed")
                next_at = min(next_at, time.monotonic() + 1.0)
        return next_at

    def _wait(self, ours: socket.socket | None, pause: float) -> bool:
        """Wait for a datagram; return whether one came. Many count as one."""
        if ours is None:
            time.sleep(min(pause, DEAF))
            return True
        bell = select.poll()
        bell.register(ours, select.POLLIN)
        heard = bool(bell.poll(pause * 1000 + 0.999))
        try:
            while heard:
                ours.recv(64)
        except OSError:
            pass
        return heard

    # -- the ends

    def close(self) -> None:
        """End the thread and close the socket, when the interpreter ends."""
        with self._lock:
            self._ending, thread = True, self._thread
        self.notify_self()
        if thread is not None and thread is not threading.current_thread():
            thread.join(1.0)
        if self._socket is not None:
            self._socket.close()

    def reset_after_fork(self) -> None:
        """Start anew, in a forked child: its name is the parent's."""
        inherited = self._socket
        self._reset()
        if inherited is not None:
            inherited.close()
        for who in list(self._attended):
            who.reset_after_fork()
        self._attended.clear()


#: That of this process.
channel = Notifier()
register_at_exit(channel.close)
os.register_at_fork(after_in_child=channel.reset_after_fork)
