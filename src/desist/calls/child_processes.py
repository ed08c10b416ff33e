"""The child processes of a thread and the processes below them: found through `/proc`, ended through pidfds."""

from __future__ import annotations

import os
import select
import shlex
import signal
import sys
import time
from collections import deque
from collections.abc import Container, Iterable

__all__ = ["child_pids", "command_line", "descendant_pids", "kill", "kill_children", "processes_below"]

LINUX = sys.platform == "linux"
#: An option of `waitid`: only children of this thread.
_WNOTHREAD = 0x20000000
#: Seconds that killed children may take to die.
_KILL_TIMEOUT = 0.1


def child_pids(native_id: int) -> list[int]:
    """Return the child processes of this thread, whose number is given. Takes a microsecond if there are none."""
    if not (LINUX and hasattr(os, "waitid")):
        return []
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | _WNOTHREAD)
    except ChildProcessError:
        return []
    return _children(f"/proc/self/task/{native_id}/children")


def descendant_pids(native_id: int, exclude: Container[int] = ()) -> list[int]:
    """Return the child processes of a thread and all processes below them, without those in `exclude`.

    From any thread. Processes that are forked meanwhile may be missing: the caller tries again.
    """
    if not LINUX:
        return []
    return processes_below(pid for pid in _children(f"/proc/self/task/{native_id}/children") if pid not in exclude)


def processes_below(pids: Iterable[int]) -> list[int]:
    """Return these processes and all below them, parents first, without the helper processes of `multiprocessing`.

    Processes whose parent has ended are not below it any more: see `ProcessMark`.
    """
    shared = _shared_helpers()
    found: list[int] = []
    open_ = deque(pid for pid in pids if pid not in shared)
    while open_:
        pid = open_.popleft()
        found.append(pid)
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for thread in threads:
            open_ += _children(f"/proc/{pid}/task/{thread}/children")
    return found


def _shared_helpers() -> set[int]:
    """Return the processes that `multiprocessing` starts once for the whole program, whichever call needs them first.

    `multiprocessing` has no public way to ask for their numbers.
    """
    tracker = sys.modules.get("multiprocessing.resource_tracker")
    server = sys.modules.get("multiprocessing.forkserver")
    return {
        getattr(getattr(tracker, "_resource_tracker", None), "_pid", None) or 0,
        getattr(getattr(server, "_forkserver", None), "_forkserver_pid", None) or 0,
    }


def command_line(pid: int) -> str:
    """Return the command line of a process; "" if it is gone or has none."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return shlex.join(word.decode(errors="replace") for word in file.read().split(b"\0") if word)
    except OSError:
        return ""


def _children(path: str) -> list[int]:
    try:
        with open(path) as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def kill(pids: Iterable[int], number: signal.Signals = signal.SIGKILL, wait: float = 0.0) -> int:
    """Send a signal to processes; return how many of them were alive. A second SIGKILL reaches none.

    By pidfd, so that no process is hit that has taken over a number. All pidfds are opened before the first signal: a
    killed process may be reaped by other code, and its number be reused.

    Parameters:
        pids: the numbers of the processes.
        number: the signal.
        wait: seconds that this may wait for the ends of the processes.
    """
    handles: list[int] = []
    for pid in pids:
        try:
            handles.append(os.pidfd_open(pid))
        except (AttributeError, OSError):  # the system has none; the process has ended
            pass
    reached = 0
    for handle in handles:
        try:
            signal.pidfd_send_signal(handle, number)
            reached += 1
        except OSError:
            pass
    deadline = time.monotonic() + wait
    for handle in handles:
        if wait:
            _wait_for_end(handle, deadline)
        os.close(handle)
    return reached


def _wait_for_end(handle: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.poll(max(0.0, deadline - time.monotonic()) * 1000)


def kill_children(native_id: int, exclude: Container[int]) -> None:
    """Kill the child processes that a cancelled call has left in this thread, without those in `exclude`.

    The exception may have interrupted the call between a fork and the assignment of its result, so that no code has a
    handle on the child. Called by the worker thread after the guard was left, before the thread makes another call.
    """
    shared = _shared_helpers()
    left = [pid for pid in child_pids(native_id) if pid not in exclude and pid not in shared]
    if not left:
        return
    kill(descendant_pids(native_id, exclude))
    deadline = time.monotonic() + _KILL_TIMEOUT
    for pid in left:
        try:
            handle = os.pidfd_open(pid)
        except (AttributeError, OSError):
            continue
        try:
            _wait_for_end(handle, deadline)
            os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOHANG)
        except ChildProcessError:  # other code has waited for it
            pass
        finally:
            os.close(handle)
