"""Find what a thread is blocked in, and end that: sockets are shut down, child processes killed.

A thread inside `recv` or `wait4` runs no byte code, so no exception reaches it. But the socket or child process that
it waits for can be ended from outside. An audit hook records the sockets that are created in a call (no
monkeypatching; TLS sockets too); `/proc` tells which file descriptors the thread is blocked on and which processes it
has forked. A socket is shut down only if it was created in the call *and* the thread is blocked on it: a pooled
connection may serve another call by now. On systems without `/proc`, all sockets created in the call are shut down,
and child processes are not found.
"""

from __future__ import annotations

import functools
import os
import platform
import select
import signal
import socket
import struct
import sys
import time
import weakref
from collections.abc import Callable, Container
from typing import Any

from desist.calls.layers import add_audit_hook, can_read_syscalls, log_missing_layers
from desist.cancel.context import current_call

__all__ = ["blocking_fds", "child_pids", "descendant_pids", "install_audit_hook", "kill", "kill_children", "unblock"]

LINUX = sys.platform == "linux"
_NONE: frozenset[int] = frozenset()
#: Numbers of system calls: those whose first argument is the descriptor they block on, and the kinds that watch many.
_ON_FD, _POLL, _SELECT, _EPOLL = {
    "x86_64": (
        frozenset({0, 1, 42, 43, 44, 45, 46, 47, 288}),
        frozenset({7, 271}),
        frozenset({23, 270}),
        frozenset({232, 281, 441}),
    ),
    "aarch64": (
        frozenset({63, 64, 203, 202, 206, 207, 211, 212, 242}),
        frozenset({73}),
        frozenset({72}),
        frozenset({22, 441}),
    ),
}.get(platform.machine(), (_NONE, _NONE, _NONE, _NONE))
_MAX_POLLED = 1024
#: An option of `waitid`: only children of this thread.
_WNOTHREAD = 0x20000000
#: Seconds that killed children may take to die.
_KILL_TIMEOUT = 0.1


@functools.cache
def install_audit_hook() -> None:
    """Record each new socket in the `sockets` of the call whose thread creates it. Can't be undone; done once."""
    add_audit_hook(_on_audit_event)
    log_missing_layers()


def _on_audit_event(event: str, args: tuple[Any, ...]) -> None:
    # Called for every audit event of every thread of the process: the comparison comes first and nothing may raise.
    # `sockets` is appended to by the thread of the call alone; `unblock` copies the list.
    if event == "socket.__new__":
        call = current_call.call
        if call is not None:
            call.sockets.append(weakref.ref(args[0]))


def blocking_fds(native_id: int) -> list[int] | None:
    """Return the file descriptors that a thread of this process is blocked on; None where that is unknown."""
    if not can_read_syscalls():
        return None
    try:
        with open(f"/proc/self/task/{native_id}/syscall") as file:
            fields = file.read().split()
    except OSError:
        return []  # the thread is gone
    if len(fields) < 3:
        return []  # running
    number = int(fields[0])
    if number in _ON_FD:
        return [int(fields[1], 16)]
    arguments = [int(field, 16) for field in fields[1:5]]
    if number in _POLL:
        return _poll_fds(arguments[0], arguments[1])
    if number in _SELECT:
        return _select_fds(arguments[0], arguments[1:])
    if number in _EPOLL:
        return _epoll_fds(arguments[0])
    return []


def _poll_fds(address: int, count: int) -> list[int]:
    """Read the descriptors out of a `struct pollfd[]`."""
    raw = _memory(address, 8 * min(count, _MAX_POLLED))
    return [struct.unpack_from("i", raw, 8 * k)[0] for k in range(len(raw) // 8)]


def _select_fds(count: int, addresses: list[int]) -> list[int]:
    """Read the descriptors out of the three `fd_set`s, which are bits: descriptor 0 is the lowest."""
    found: set[int] = set()
    for address in addresses:
        bits = int.from_bytes(_memory(address, (min(count, _MAX_POLLED) + 7) // 8), "little") if address else 0
        found.update(fd for fd in range(count) if bits >> fd & 1)
    return sorted(found)


def _epoll_fds(epoll: int) -> list[int]:
    """Return the descriptors that are registered with an epoll object: an event loop in the call waits on it."""
    try:
        with open(f"/proc/self/fdinfo/{epoll}") as file:
            return [int(line.split()[1]) for line in file if line.startswith("tfd:")]
    except OSError:
        return []


def _memory(address: int, size: int) -> bytes:
    """Read memory of this process, through /proc: reading a stack that is gone is an error there and no crash.

    The thread may have left its system call since: then these are other bytes, and the descriptors in them are
    compared with the sockets of the call.
    """
    try:
        memory = os.open("/proc/self/mem", os.O_RDONLY)
        try:
            return os.pread(memory, size, address)
        finally:
            os.close(memory)
    except OSError:
        return b""


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
    found: list[int] = []
    open_ = [pid for pid in _children(f"/proc/self/task/{native_id}/children") if pid not in exclude]
    while open_:
        pid = open_.pop()
        found.append(pid)
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for thread in threads:
            open_ += _children(f"/proc/{pid}/task/{thread}/children")
    return found


def _children(path: str) -> list[int]:
    try:
        with open(path) as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def kill(pids: list[int]) -> int:
    """Kill processes; return how many of them were alive. A second call kills none.

    By pidfd, so that no process is hit that has taken over a number. All pidfds are opened before the first kill: a
    killed process may be reaped by other code, and its number be reused.
    """
    handles: list[int] = []
    for pid in pids:
        try:
            handles.append(os.pidfd_open(pid))
        except (AttributeError, OSError):  # the system has none; the process has ended
            pass
    killed = 0
    for handle in handles:
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            killed += 1
        except OSError:
            pass
        os.close(handle)
    return killed


def kill_children(native_id: int, exclude: Container[int]) -> None:
    """Kill the child processes that a cancelled call has left in this thread, without those in `exclude`.

    The exception may have interrupted the call between a fork and the assignment of its result, so that no code has a
    handle on the child. Called by the worker thread after the guard was left, before the thread makes another call.
    """
    left = [pid for pid in child_pids(native_id) if pid not in exclude]
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
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOHANG)
        except ChildProcessError:  # other code has waited for it
            pass
        finally:
            os.close(handle)


def unblock(
    native_id: int,
    sockets: list[weakref.ref[socket.socket]],
    exclude: Container[int] = (),
    skip_if: Callable[[], bool] = lambda: False,
) -> None:
    """End what a thread is blocked in, as far as it belongs to this call. From any thread; repeated with back-off.

    Parameters:
        native_id: the system's number of the thread.
        sockets: the sockets that were created in the call.
        exclude: child processes from before the call.
        skip_if: whether the call is to be left alone. Evaluated after everything was found and before anything is
            ended: if the call is still the same then, all that was found belongs to it.
    """
    pids = descendant_pids(native_id, exclude)
    own = [sock for ref in list(sockets) if (sock := ref()) is not None]
    waiting_for = blocking_fds(native_id) if own else []
    if skip_if():
        return
    if pids:
        kill(pids)
    for sock in own:
        try:
            fd = sock.fileno()
            if fd >= 0 and (waiting_for is None or fd in waiting_for):
                # Unbound: `SSLSocket.shutdown` would pull the TLS object out from under the reader.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        except OSError:
            pass
