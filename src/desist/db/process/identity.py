"""Identifies the process that executes a run, as text in the record of the run, and detects that the process is gone.

Only what can be known is reported: a process on another machine, or in another container, is not gone as far as this
process can see.
"""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path

__all__ = ["describe_process", "is_dead", "is_running", "this_process"]


def this_process() -> str:
    """Return this process: its host, the boot of that host, its id and its start."""
    return _stamp(os.getpid())


@functools.lru_cache(maxsize=2)  # 2: a process and its forked child in tests
def _stamp(pid: int) -> str:
    where, boot = _here()
    return f"{where}|{boot}|{pid}|{_started(pid)}"


def is_dead(process: str | None, *, everywhere: bool = False) -> bool:
    """Return whether a process has ended. False if that can't be known.

    Parameters:
        everywhere: whether the process may have been on another machine, even one with the name of this one.
    """
    parts = (process or "").split("|")
    if len(parts) != 4:
        return False
    where, boot, pid, started = parts
    here, this_boot = _here()
    if where != here:
        return False
    if boot != this_boot:  # an earlier boot of this machine, or another machine with this name
        return not everywhere
    return not pid.isdigit() or _started(int(pid)) != started


def is_running(process: str | None) -> bool:
    """Return whether a process is on this machine and is not stopped. False if that can't be known."""
    parts = (process or "").split("|")
    if len(parts) != 4 or tuple(parts[:2]) != _here() or not parts[2].isdigit():
        return False
    return _started(int(parts[2]), stopped=False) == parts[3] != ""


def describe_process(process: str | None) -> str:
    """Return a process as text for people."""
    parts = (process or "").split("|")
    return f"process {parts[2]} on {parts[0].split('/')[0]}" if len(parts) == 4 else "its process"


def _here() -> tuple[str, str]:
    """Return the host with its PID namespace, and the id of its boot: process ids are valid only there."""
    try:
        space = os.readlink("/proc/self/ns/pid").strip("pid:[]")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux: reboots are not detected
        space = boot = ""
    return f"{socket.gethostname().replace('|', '-')}/{space}", boot


def _started(pid: int, *, stopped: bool = True) -> str:
    """Return when a process started, in ticks since the boot; "" if it does not exist, or is dead.

    Parameters:
        stopped: whether a stopped process (SIGSTOP, a debugger) counts as existing.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "" if Path("/proc/self/stat").exists() else _started_elsewhere(pid)
    fields = stat.rpartition(")")[2].split()  # the name before may contain anything
    return "" if fields[0] in ("ZX" if stopped else "ZXTt") else fields[19]


def _started_elsewhere(pid: int) -> str:
    import psutil

    try:
        return str(psutil.Process(pid).create_time())
    except psutil.Error:
        return ""
