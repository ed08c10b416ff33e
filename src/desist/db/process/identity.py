"""Which process runs a run, as text in its record, and whether that process is gone.

Asked when a run is loaded that has no end. Only what can be known is said: a process on another machine, or in
another container, isn't gone as far as this one can see.
"""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path

__all__ = ["describe_process", "is_dead", "is_running", "this_process"]


def this_process() -> str:
    """Return this process: where it runs, since which start of the machine, its id and when it started."""
    return _stamp(os.getpid())


@functools.lru_cache(maxsize=2)  # two: a fork and its parent in tests
def _stamp(pid: int) -> str:
    where, boot = _here()
    return f"{where}|{boot}|{pid}|{_started(pid)}"


def is_dead(process: str | None, *, everywhere: bool = False) -> bool:
    """Whether the process that `process` names has ended. False where that can't be known.

    Parameters:
        everywhere: it may have been on another machine, even on one with this one's name.
    """
    parts = (process or "").split("|")
    if len(parts) != 4:
        return False
    where, boot, pid, started = parts
    here, this_boot = _here()
    if where != here:
        return False
    if boot != this_boot:  # a start of this machine that is over, or another machine of this name
        return not everywhere
    return not pid.isdigit() or _started(int(pid)) != started


def is_running(process: str | None) -> bool:
    """Whether the process that `process` names is seen on this machine and isn't stopped. False where it can't be."""
    parts = (process or "").split("|")
    if len(parts) != 4 or tuple(parts[:2]) != _here() or not parts[2].isdigit():
        return False
    return _started(int(parts[2]), stopped=False) == parts[3] != ""


def describe_process(process: str | None) -> str:
    """Return a process for people."""
    parts = (process or "").split("|")
    return f"process {parts[2]} on {parts[0].split('/')[0]}" if len(parts) == 4 else "its process"


def _here() -> tuple[str, str]:
    """Return the host with its space of process ids, and the start of the machine: ids mean something only there."""
    try:
        space = os.readlink("/proc/self/ns/pid").strip("pid:[]")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux: a restart of the machine isn't seen
        space = boot = ""
    return f"{socket.gethostname().replace('|', '-')}/{space}", boot


def _started(pid: int, *, stopped: bool = True) -> str:
    """Return when a process started, in ticks since the machine did; "" for one that isn't there, or is dead.

    Parameters:
        stopped: one that was stopped (SIGSTOP, a debugger) counts as being there.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "" if Path("/proc/self/stat").exists() else _started_elsewhere(pid)
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return "" if fields[0] in ("ZX" if stopped else "ZXTt") else fields[19]


def _started_elsewhere(pid: int) -> str:
    import psutil

    try:
        return str(psutil.Process(pid).create_time())
    except psutil.Error:
        return ""
