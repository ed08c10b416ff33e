"""One worker process as its parent holds it: started, told to end, killed, reaped.

Made by the pool's keeper thread, which also reaps it; stopped from any thread. It must not know of loops or runs.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from desist.calls.blocking_syscalls import kill

__all__ = ["Settings", "WorkerProcess", "current_settings"]

SCRIPT = Path(__file__).with_name("supervisor.py")
#: The name of the environment variable by which whatever a worker starts can be known.
MARK = "DESIST_WORKER"

#: `sys.path`, the working folder and the environment: what a worker takes over from its parent with a call.
Settings = tuple[list[str], str, dict[str, str]]


def current_settings() -> Settings:
    """Return what a worker should take over now."""
    try:
        folder = os.getcwd()
    except FileNotFoundError:
        folder = "/"
    return list(sys.path), folder, dict(os.environ)


class WorkerProcess:
    """A supervisor with a worker below it, in a session and process group of their own."""

    def __init__(self) -> None:
        """Start it; it isn't waited for. Raises `OSError` if the system can't."""
        self.lock = threading.Lock()
        self.mark = secrets.token_hex(8)
        self.ready = False  #: its first frame was read
        self.settings: Settings | None = None  #: what it was last sent
        self.idle_since = time.monotonic()
        self.stopping = False  #: told to end, or let go: it takes no more calls
        self.status: int | None = None  #: how it ended, as `waitpid` says
        self.dead = False
        self._in_use = False
        self._then: list[Callable[[], None]] = []
        ours, theirs = socket.socketpair()
        control, control_theirs = socket.socketpair()
        passed = (theirs.fileno(), control_theirs.fileno())
        with theirs, control_theirs:
            try:
                self._popen = _start(passed, self.mark)
                self.pidfd = os.pidfd_open(self._popen.pid)
            except BaseException:
                ours.close()
                control.close()
                raise
        ours.setblocking(False)
        control.setblocking(False)
        self.socket, self._control = ours, control

    @property
    def pid(self) -> int:
        """The supervisor's process id, which is also that of the session and group."""
        return self._popen.pid

    # -- its end

    def terminate(self) -> None:
        """SIGTERM to the group; nothing that it sends is read any more."""
        with self.lock:
            self.stopping = True
            if not self.dead:
                self._close_requests()
                os.killpg(self.pid, signal.SIGTERM)

    def close_after_call(self) -> None:
        """Let it finish what it does and end then; nothing that it sends is read any more."""
        with self.lock:
            self.stopping = True
            if not self.dead:
                self._close_requests()

    def kill(self) -> None:
        """SIGKILL to the worker and to all that it started, wherever they went: the supervisor does it."""
        with self.lock:
            self.stopping = True
            if not self.dead:
                with contextlib.suppress(OSError):
                    self._control.send(b"K")

    def kill_group(self) -> None:
        """SIGKILL to the group with the supervisor, if that doesn't answer."""
        with self.lock:
            self.stopping = True
            if not self.dead:
                os.killpg(self.pid, signal.SIGKILL)

    def _close_requests(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def then(self, callback: Callable[[], None]) -> None:
        """Call `callback()` when nothing of it is left: from the keeper's thread, at once if it is so."""
        with self.lock:
            if not self.dead:
                self._then.append(callback)
                return
        callback()

    def reap(self) -> None:
        """It has ended: take note, close what belongs to it. Called by the keeper, when `pidfd` is readable."""
        said = b""
        with contextlib.suppress(OSError):
            said = self._control.recv(64)
        with self.lock:
            self._popen.wait()
            self.stopping = self.dead = True
            if not self._in_use:
                self.socket.close()
            callbacks, self._then = self._then, []
        if said:
            self.status = int(said)
        else:
            kill_marked(self.mark)  # the supervisor itself was killed
        self._control.close()
        os.close(self.pidfd)
        for callback in callbacks:
            callback()

    # -- whose turn it is to close the socket: a loop may still be reading it when the process is gone

    def use(self) -> None:
        """A call begins to read and write the socket."""
        with self.lock:
            self._in_use = True

    def unuse(self) -> None:
        """It has stopped doing so."""
        with self.lock:
            self._in_use = False
            if self.dead:
                self.socket.close()

    def reset_after_fork(self) -> None:
        """Forget it in a program that was forked off: it belongs to the parent."""
        self._popen.returncode = 0  # or the destructor would look for a child that isn't ours
        self.socket.close()
        self._control.close()
        with contextlib.suppress(OSError):
            os.close(self.pidfd)

    def exit_description(self) -> str:
        """Say how it ended."""
        status = self.status
        if status is None:
            return "was killed together with its supervisor"
        if os.WIFSIGNALED(status):
            number = signal.Signals(os.WTERMSIG(status))
            why = ": out of memory, or killed from outside" if number is signal.SIGKILL else ""
            return f"was killed by {number.name} ({signal.strsignal(number)}{why})"
        return f"ended itself with exit code {os.waitstatus_to_exitcode(status)}"


def _start(passed: tuple[int, int], mark: str) -> subprocess.Popen[bytes]:
    """Start the script, with the options of this interpreter."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return subprocess.Popen(
        [sys.executable, *flags, "-P", str(SCRIPT), *map(str, passed), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        pass_fds=passed,
        start_new_session=True,
        env=os.environ | {MARK: mark},
    )


def kill_marked(mark: str) -> None:
    """Kill whatever still carries the mark of a worker in its environment."""
    sign = f"{MARK}={mark}".encode()
    for _ in range(5):
        found = []
        for name in os.listdir("/proc"):
            if name.isdecimal():
                with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
                    if sign in file.read().split(b"\0"):
                        found.append(int(name))
        if not kill(found):
            return
