"""A child process that a call has started, with all processes below it."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import threading
import time
from collections.abc import Callable

from desist.calls.child_processes import command_line, processes_below
from desist.calls.started.member import MemberOwner
from desist.cancel.receipt import Abandoned
from desist.runtime.timer_thread import timers

__all__ = ["StartedProcess"]

#: Seconds between two polls whether the processes have ended, at first and at most.
FIRST, SLOWEST = 0.001, 0.1


class StartedProcess:
    """One child process. Its pidfd is open from the start, so that no process is hit that has taken over the number.

    Signalled and polled from any thread. The lock protects the pidfds: none is used after `close`. The processes below
    the child are found while it lives, and are signalled as well when it dies first.

    Parameters:
        pid: the number of the process, which isn't reaped yet.
        name: its name in receipts.
        work: what the call has started.
        of_pool: whether a pool of the call ends the process: one that is killed before may hold a lock of the pool.
        reap: called when the process has ended, if nothing else would fetch its status.

    Raises:
        OSError: the process is gone, or the system has no pidfds.
    """

    kind = "process"
    shield_deadline = 0.0

    def __init__(
        self,
        pid: int,
        name: str,
        work: MemberOwner,
        reap: Callable[[], object] | None = None,
        *,
        of_pool: bool = False,
    ) -> None:
        self.pid, self.name = pid, name
        self.started_at = time.time()
        self._work, self._reap, self.of_pool = work, reap, of_pool
        self._lock = threading.Lock()
        self._pidfds = {pid: os.pidfd_open(pid)}
        self._kill_at = math.inf
        self._watched = False
        self.ended = False

    def is_alive(self) -> bool:
        """Return whether the process or a known one below it is alive. A zombie isn't."""
        with self._lock:
            return bool(self._living())

    def _living(self) -> list[int]:
        poll = select.poll()
        for handle in self._pidfds.values():
            poll.register(handle, select.POLLIN)
        ended = {handle for handle, _ in poll.poll(0)}
        return [pid for pid, handle in self._pidfds.items() if handle not in ended]

    def close(self) -> None:
        """Close the pidfds, when the processes have ended or aren't the call's any more. Again without effect."""
        with self._lock:
            handles, self._pidfds = list(self._pidfds.values()), {}
            self.ended = True
        for handle in handles:
            os.close(handle)

    def interrupt(self, grace: float, force: bool) -> None:
        """Send SIGTERM now and SIGKILL after three quarters of the grace. From any thread; returns at once."""
        if self.of_pool and grace and not force:
            timers.call_at(time.monotonic() + 0.75 * grace, lambda: self.interrupt(0.0, False))
            self.watch()
            return
        self._kill_at = time.monotonic() + (0.0 if force else 0.75 * grace)
        self._signal(signal.SIGKILL if force else signal.SIGTERM)
        self.watch()

    def watch(self) -> None:
        """Have the end of the process noted soon. From any thread; again without effect."""
        if not self._watched:
            self._watched = True
            self._watch(FIRST)

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and to all below it, and remember these."""
        with self._lock:
            for pid in processes_below(list(self._pidfds)):
                if pid not in self._pidfds:
                    with contextlib.suppress(OSError):
                        self._pidfds[pid] = os.pidfd_open(pid)
            for handle in self._pidfds.values():
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(handle, number)

    def _watch(self, delay: float) -> None:
        """Poll whether the processes have ended, and kill them when it is time. In the timer thread, mostly."""
        if self.ended:
            return
        if not self.is_alive():
            self.close()
            if self._reap is not None:
                with contextlib.suppress(Exception):  # code of the user's process object, which may be closed
                    self._reap()
            self._work.member_ended(self)
            return
        if time.monotonic() >= self._kill_at:
            self._signal(signal.SIGKILL)
        timers.call_at(time.monotonic() + delay, lambda: self._watch(min(2 * delay, SLOWEST)))

    def stack(self) -> str:
        """Return "": the frames are in another process."""
        return ""

    def abandon(self, call: str) -> list[Abandoned]:
        """Return a record of each process that is still alive."""
        with self._lock:
            living = self._living()
        return [
            Abandoned(name=self.name, kind=self.kind, waits_for=f"process {pid}: {command_line(pid)}", call=call)
            for pid in living
        ]
