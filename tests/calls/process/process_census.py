"""Sockets on which functions of other processes report, and a census of processes."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from pathlib import Path

import psutil

PATIENCE = 100.0


class Door:
    """Where a function in another process says that it is in."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self.path)
        self._server.listen()
        self._server.settimeout(PATIENCE)

    def answer(self) -> tuple[int, str]:
        """Wait until somebody knocks; return who, and the word."""
        line, _ = self._server.accept()
        with line:
            line.settimeout(PATIENCE)
            heard = b""
            while piece := line.recv(4096):
                heard += piece
        pid, _, word = heard.decode().partition(" ")
        return int(pid), word

    def close(self) -> None:
        self._server.close()


def is_there(pid: int) -> bool:
    """Whether a process exists, as a zombie or otherwise."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_gone(pid: int) -> bool:
    """Wait until a process has ended; return whether it has."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(PATIENCE * 1000))
    finally:
        os.close(handle)


def marked_processes() -> list[psutil.Process]:
    """Return the processes that carry the mark of a worker of ours, but for supervisors and workers themselves."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "DESIST_WORKER" in process.environ() and process.name() == "sleep":
                found.append(process)
    return found
