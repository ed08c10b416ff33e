"""What a thread is blocked in, as the kernel tells: the descriptors that it waits for, and a description for people.

A thread inside `recv` or `wait4` runs no byte code, so no exception reaches it. `/proc/self/task/TID/syscall` names the
system call and its arguments; reading it takes some 50 us. Where the file is missing or the numbers of the system calls
are unknown, all of this is unknown, too.
"""

from __future__ import annotations

import os
import platform
import socket
import stat
import struct

from desist.calls.layers import can_read_syscalls

__all__ = ["blocking_fds", "describe_wait"]

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
#: The names of the system calls in which threads usually wait.
_NAMES: dict[int, str] = {
    "x86_64": {
        0: "read", 1: "write", 7: "poll", 23: "select", 35: "nanosleep", 42: "connect", 43: "accept", 44: "sendto",
        45: "recvfrom", 46: "sendmsg", 47: "recvmsg", 61: "wait4", 202: "futex", 230: "clock_nanosleep",
        232: "epoll_wait", 247: "waitid", 270: "pselect6", 271: "ppoll", 281: "epoll_pwait", 288: "accept4",
        441: "epoll_pwait2",
    },
    "aarch64": {
        22: "epoll_pwait", 63: "read", 64: "write", 72: "pselect6", 73: "ppoll", 95: "waitid", 98: "futex",
        101: "nanosleep", 115: "clock_nanosleep", 202: "accept", 203: "connect", 206: "sendto", 207: "recvfrom",
        211: "sendmsg", 212: "recvmsg", 242: "accept4", 260: "wait4", 441: "epoll_pwait2",
    },
}.get(platform.machine(), {})  # fmt: skip
_MEANINGS = {"futex": "a lock", "clock_nanosleep": "a sleep", "nanosleep": "a sleep", "wait4": "a child process"}
_MAX_POLLED = 1024


def describe_wait(native_id: int) -> str | None:
    """Return the system call in which a thread waits and what it waits for, for people; None if that is unknown.

    From any thread. The number of a descriptor may be reused while it is looked at: this is a description only.
    """
    fields = _syscall(native_id)
    if not fields:
        return None
    name = _NAMES.get(int(fields[0]), f"system call {fields[0]}")
    if name in _MEANINGS:
        return f"{name}: {_MEANINGS[name]}"
    what = [text for fd in (blocking_fds(native_id) or [])[:8] if (text := _describe_fd(fd))]
    return f"{name}: {', '.join(what)}" if what else name


def _describe_fd(fd: int) -> str:
    """Return the peer of a socket, or the target of another descriptor; "" if the descriptor is closed."""
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return os.readlink(f"/proc/self/fd/{fd}")
        with socket.socket(fileno=os.dup(fd)) as duplicate:
            peer = duplicate.getpeername()
    except OSError:
        return ""
    if isinstance(peer, tuple):
        return f"{peer[0]}:{peer[1]}"
    return peer.decode(errors="replace") if isinstance(peer, bytes) else str(peer or "a local socket")


def blocking_fds(native_id: int) -> list[int] | None:
    """Return the file descriptors that a thread of this process is blocked on; None where that is unknown."""
    fields = _syscall(native_id)
    if not fields:
        return None if fields is None else []  # unknown; running, or gone
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


def _syscall(native_id: int) -> list[str] | None:
    """Return the words of the thread's file; [] for a thread that runs or is gone, None where there is no such file."""
    if not can_read_syscalls():
        return None
    try:
        with open(f"/proc/self/task/{native_id}/syscall") as file:
            fields = file.read().split()
    except OSError:
        return []  # the thread is gone
    return fields if len(fields) >= 3 else []


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
