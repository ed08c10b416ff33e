"""One worker process as its parent sees it: start, termination, kill, reaping.

The thread of the pool creates and reaps it; any thread may stop it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from desist.calls.child_processes import kill
from desist.calls.process_mark import ProcessMark

__all__ = ["Settings", "WorkerProcess", "current_settings"]

SCRIPT = Path(__file__).with_name("supervisor.py")
#: The environment variable that marks all processes that a worker starts.
MARK = "DESIST_WORKER"

#: `sys.path`, the working directory and the environment, which a worker takes over from its parent with a call.
Settings = tuple[list[str], str, dict[str, str]]


def current_settings() -> Settings:
    """Return the settings of this process."""
    try:
        folder = os.getcwd()
    except FileNotFoundError:
        folder = "/"
    return list(sys.path), folder, dict(os.environ)


class WorkerProcess:
    """A supervisor with a worker below it, in a session and process group of their own.

    The lock orders signals against reaping: a signal is sent only while `dead` is false, and the process isn't reaped
    meanwhile, so its number can't belong to another process. Nothing waits with the lock held but for a process that
    has ended already.
    """

    def __init__(self) -> None:
        """Start the process without waiting for it. Raises `OSError` if the system can't start one."""
        self.lock = threading.Lock()
        self.mark = ProcessMark(MARK)
        self.ready = False  #: its first frame was read
        self.settings: Settings | None = None  #: the settings that it was sent last
        self.idle_since = time.monotonic()
        self.stopping = False  #: it is being ended, and gets no more calls
        self.status: int | None = None  #: its status of `waitpid`, None if the supervisor was killed
        self.dead = False
        self._in_use = False
        self._on_exit: list[Callable[[], None]] = []
        ours, theirs = socket.socketpair()
        control, control_theirs = socket.socketpair()
        passed = (theirs.fileno(), control_theirs.fileno())
        with theirs, control_theirs:
            try:
                self._popen = _start(passed, self.mark.value)
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

    # -- its end; each of these may be called again and from several threads

    def terminate(self) -> None:
        """Send SIGTERM to the group, and read nothing more from the worker."""
        with self.lock:
            self.stopping = True
            if not self.dead:
                self._close_requests()
                os.killpg(self.pid, signal.SIGTERM)

    def close_after_call(self) -> None:
        """Let the worker end after its current call, and read nothing more from it."""
        with self.lock:
            self.stopping = True
            if not self.dead:
                self._close_requests()

    def kill(self) -> None:
        """Have the supervisor send SIGKILL to the worker and to all processes that it started, in any session."""
        with self.lock:
            self.stopping = True
            if not self.dead:
                with contextlib.suppress(OSError):
                    self._control.send(b"K")

    def kill_group(self) -> None:
        """Send SIGKILL to the group with the supervisor, if the supervisor doesn't react."""
        with self.lock:
            self.stopping = True
            if not self.dead:
                os.killpg(self.pid, signal.SIGKILL)

    def _close_requests(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def then(self, callback: Callable[[], None]) -> None:
        """Call `callback()` once when no process is left: in the thread of the pool, or here if that is so now."""
        with self.lock:
            if not self.dead:
                self._on_exit.append(callback)
                return
        callback()

    def reap(self) -> None:
        """Reap the process and close its descriptors. Once, in the thread of the pool, when `pidfd` is readable."""
        status = b""
        with contextlib.suppress(OSError):
            status = self._control.recv(64)
        with self.lock:
            self._popen.wait()
            self.stopping = self.dead = True
            if not self._in_use:
                self.socket.close()
            callbacks, self._on_exit = self._on_exit, []
        if status:
            self.status = int(status)
        else:
            kill_marked(self.mark)  # the supervisor itself was killed
        self._control.close()
        os.close(self.pidfd)
        for callback in callbacks:  # last, and without the lock: they notify runs
            callback()

    # -- the socket is closed by `reap` or, if a loop still reads it when the process has ended, by `unuse`

    def use(self) -> None:
        """Reserve the socket for a call."""
        with self.lock:
            self._in_use = True

    def unuse(self) -> None:
        """Release the socket after a call. On the thread of the loop that read it."""
        with self.lock:
            self._in_use = False
            if self.dead:
                self.socket.close()

    def reset_after_fork(self) -> None:
        """Close the descriptors in a forked child; the process belongs to the parent."""
        self._popen.returncode = 0  # or the destructor would wait for a process that isn't a child of this one
        self.socket.close()
        self._control.close()
        with contextlib.suppress(OSError):
            os.close(self.pidfd)

    def exit_description(self) -> str:
        """Return a phrase that says how the process ended."""
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


def kill_marked(mark: ProcessMark) -> None:
    """Kill all processes with the mark of a worker in their environment.

    Repeated, as a process may have forked between the reading of `/proc` and its kill.
    """
    for _ in range(5):
        if not kill(mark.processes()):
            return
