"""The layers by which blocked user code is stopped, and which of them work on this system.

Each layer is found by trying it. desist works without any of them: a cancel is decided, answered and recorded, async
code and code that checks its token stops, and the rest is abandoned after the grace.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Layer", "add_audit_hook", "available_layers", "can_read_syscalls", "log_missing_layers"]

log = logging.getLogger("desist.cancel")

#: The machines whose numbers of system calls are known.
KNOWN_MACHINES = ("x86_64", "aarch64")
_audit_hook_error: str | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: what it does, and why it doesn't work here, if so."""

    name: str
    effect: str  #: where it works
    consequence: str  #: where it doesn't
    missing: str | None = None  #: why it doesn't work on this system

    @property
    def works(self) -> bool:
        """Whether it works on this system."""
        return self.missing is None


def add_audit_hook(hook: Callable[[str, tuple[Any, ...]], None]) -> None:
    """Add an audit hook for this process, if the system lets it."""
    global _audit_hook_error
    try:
        sys.addaudithook(hook)
    except Exception as error:  # another hook may refuse this one with any exception
        _audit_hook_error = f"{type(error).__name__}: {error}"


def _thread_interrupts() -> None:
    _ = ctypes.pythonapi.PyThreadState_SetAsyncExc


def _audit_hooks() -> None:
    if _audit_hook_error is not None:
        raise OSError(_audit_hook_error)
    _ = sys.addaudithook


def _blocked_descriptors() -> None:
    if sys.platform != "linux" or platform.machine() not in KNOWN_MACHINES:
        raise OSError(f"not known on {platform.system()} {platform.machine()}")
    with open(f"/proc/self/task/{threading.get_native_id()}/syscall", "rb") as file:
        file.read(1)


def _child_processes() -> None:
    _ = os.waitid
    with open(f"/proc/self/task/{threading.get_native_id()}/children", "rb") as file:
        file.read(1)


def _process_handles() -> None:
    os.close(os.pidfd_open(os.getpid()))
    _ = signal.pidfd_send_signal


def _process_groups() -> None:
    os.getpgid(0)
    _ = signal.SIGKILL


_LAYERS: tuple[tuple[Layer, Callable[[], None]], ...] = (
    (
        Layer(
            "thread interrupts",
            "a thread in Python code can be interrupted",
            "a thread in Python code can't be interrupted and is abandoned",
        ),
        _thread_interrupts,
    ),
    (
        Layer(
            "audit hooks",
            "the sockets that a sync tool opens are known",
            "a thread that waits for a socket can't be interrupted and is abandoned",
        ),
        _audit_hooks,
    ),
    (
        Layer(
            "blocked descriptors",
            "only the socket that a thread waits for is shut down",
            "all sockets that a cancelled sync tool has opened are shut down",
        ),
        _blocked_descriptors,
    ),
    (
        Layer(
            "child processes",
            "the child processes of a sync tool are found",
            "the child processes of a sync tool aren't found and go on",
        ),
        _child_processes,
    ),
    (
        Layer(
            "pidfd",
            "a process that is killed can't be mistaken for another one",
            "child processes aren't killed, and isolation='process' doesn't work",
        ),
        _process_handles,
    ),
    (
        Layer("process groups", "process tools can be killed with their children", "isolation='process' doesn't work"),
        _process_groups,
    ),
)


def available_layers() -> tuple[Layer, ...]:
    """Return all layers; `missing` of each says why it doesn't work here. Tries each of them: takes a millisecond."""
    return tuple(_tried(layer, attempt) for layer, attempt in _LAYERS)


def _tried(layer: Layer, attempt: Callable[[], None]) -> Layer:
    try:
        attempt()
    except Exception as error:
        return Layer(layer.name, layer.effect, layer.consequence, f"{type(error).__name__}: {error}")
    return layer


@functools.cache
def can_read_syscalls() -> bool:
    """Whether the system tells what a thread of this process is blocked in."""
    try:
        _blocked_descriptors()
    except OSError:
        return False
    return True


@functools.cache
def log_missing_layers() -> None:
    """Log which layers don't work here, with the consequences. Once for each process; nothing if all work."""
    missing = [f"{one.consequence} ({one.name}: {one.missing})" for one in available_layers() if not one.works]
    if missing:
        log.warning("not all blocked code can be stopped on this system: %s", "; ".join(missing))
