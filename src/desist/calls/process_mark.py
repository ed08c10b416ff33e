"""The mark of the processes of one call: how they are found when their parents have ended.

Processes that a call starts directly are known by their numbers, and those below them by their parents. A daemon has
neither: its parent has ended. It carries the mark of the call instead, in up to three places, of which each program
keeps at least one unless it is made to lose them all:

- the environment with which a program was started: kept by all programs that these start in turn;
- a memory file that bears the mark as its name, mapped into each process that is *forked*: kept by all that are forked
  from there, also if these close all descriptors;
- the descriptor of that file, which is inheritable: kept by programs that are executed with another environment.

The process of the call itself has none of them, so other code there can't hand them on by accident.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import time

__all__ = ["ENVIRONMENT", "ProcessMark", "mark_of_this_process", "mark_this_process"]

#: The name of the environment variable.
ENVIRONMENT = "DESIST_CALL"
_FILE = "desist-call-"
#: Seconds after which processes are looked at again that have no memory just now.
_DELAYS = (0.001, 0.002, 0.004, 0.008, 0.016)
#: A flag of processes: a thread of the system.
_KERNEL_THREAD = 0x200000
#: Seconds by which a process may seem older than it is: the kernel counts in ticks.
_TICK = 0.1

_own: str | None = None


class ProcessMark:
    """The mark of one call, or of one worker process.

    Pickled for a process that is being started, it marks that process when it is unpickled there.

    Parameters:
        variable: the name of the variable that has the mark as its value.
    """

    __slots__ = ("_since", "_variable", "value")

    def __init__(self, variable: str = ENVIRONMENT) -> None:
        self.value = os.urandom(8).hex()
        self._variable = variable  #: of the environment
        self._since = _seconds_since_boot() - _TICK

    def __reduce__(self) -> tuple[object, ...]:
        return mark_this_process, (self.value,)

    def processes(self) -> list[int]:
        """Return the processes with this mark. From any thread, in a helper thread best.

        Reads a file of each process of the system, some 20 us each, and three more of those that are younger than the
        mark. A process that executes another program just now has no memory for a moment, and neither has one that is
        dying: this waits for such processes, some milliseconds in all.
        """
        try:
            open_ = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
        except OSError:
            return []
        own, found = os.getpid(), []
        for delay in _DELAYS:
            changing = []
            for pid in open_:
                with contextlib.suppress(OSError):  # it has ended, or belongs to another user
                    if pid != own and self._may_be_marked(pid):
                        marked = self._is_marked(pid)
                        if marked is None:
                            changing.append(pid)
                        elif marked:
                            found.append(pid)
            if not changing:
                break
            open_ = changing
            time.sleep(delay)
        return found

    def _may_be_marked(self, pid: int) -> bool:
        """Return whether a process has not ended, is younger than the mark, and is no thread of the system."""
        fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        born = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return fields[0] not in (b"Z", b"X") and born >= self._since and not int(fields[6]) & _KERNEL_THREAD

    def _is_marked(self, pid: int) -> bool | None:
        """Return whether a process has the mark; None if it has no memory now."""
        file = f"{_FILE}{self.value}"
        try:
            environment = _read(f"/proc/{pid}/environ")
            if f"{self._variable}={self.value}".encode() in environment.split(b"\0"):
                return True
            memory = _read(f"/proc/{pid}/maps")
        except ProcessLookupError:  # what some kernels say of a process without memory
            return None
        if file.encode() in memory:
            return True
        if any(file in _link(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")):
            return True
        return False if environment and memory else None


def mark_this_process(value: str) -> None:
    """Give this process, which a call has started, the mark of the call, and all that is started here.

    Without a lock: in a forked child, another thread may have held it.
    """
    global _own
    os.environ[ENVIRONMENT] = _own = value
    try:
        file = os.memfd_create(_FILE + value, 0)
        os.ftruncate(file, mmap.PAGESIZE)
        mapping = mmap.mmap(file, mmap.PAGESIZE, prot=mmap.PROT_READ)
    except (AttributeError, OSError):  # the system has no memory files
        return
    # Never freed: that would close a descriptor of the mapping, whose number is another file's by then if the program
    # closes all that it hasn't opened.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(mapping))


def mark_of_this_process() -> str | None:
    """Return the mark that this process has been given."""
    return _own


def _seconds_since_boot() -> float:
    """Return the time on the clock by which the kernel tells the starts of processes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else 0.0


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:  # closed meanwhile
        return ""
