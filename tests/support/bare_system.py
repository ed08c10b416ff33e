"""Take away from this process what some systems don't have. To be imported first, in a process of its own.

That is `/proc`, audit hooks, callbacks of fork, handles of processes, and modules of POSIX systems. A container may be
like this, macOS and Windows are in part.
"""

from __future__ import annotations

import builtins
import io
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Any

_FUNCTIONS = {
    os: ("fork", "register_at_fork", "pidfd_open", "waitid", "eventfd", "eventfd_read", "eventfd_write"),
    signal: ("pidfd_send_signal",),
    select: ("epoll",),
}
#: Of other packages the variant for this system is installed, which imports these.
_MODULES_OF_DESIST = ("fcntl", "grp", "pwd", "resource", "termios", "tty")


def _without_proc(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(path: Any, *args: Any, **options: Any) -> Any:
        name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if name == "/proc" or name.startswith("/proc/"):
            raise FileNotFoundError(2, "No such file or directory", name)
        return function(path, *args, **options)

    return call


def _no_audit_hooks(hook: Any) -> None:
    raise RuntimeError("audit hooks are not allowed here")


def _without_modules(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(name: str, globals: Any = None, *args: Any, **options: Any) -> Any:
        if name in _MODULES_OF_DESIST and globals is not None and globals["__name__"].startswith("desist."):
            raise ImportError(f"no module named {name!r} on this system")
        return function(name, globals, *args, **options)

    return call


def _make_bare() -> None:
    builtins.open = io.open = _without_proc(open)  # type: ignore[assignment]
    for name in ("open", "listdir", "scandir", "readlink", "stat", "lstat"):
        setattr(os, name, _without_proc(getattr(os, name)))
    sys.addaudithook = _no_audit_hooks
    for module, names in _FUNCTIONS.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    builtins.__import__ = _without_modules(builtins.__import__)


_make_bare()
