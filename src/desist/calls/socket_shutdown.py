"""Shut down the sockets that an interrupted thread is blocked on.

Three rules say which sockets these are:

- A socket that was created in the call, according to the audit hook: shut down if the thread is blocked on it. A pooled
  connection may serve another call by now.
- Any other connected stream socket on which the thread is blocked, whatever opened it and when: a kept-alive
  connection, the socket of a database driver written in C. Descriptor numbers are reused, so the descriptor is
  duplicated, the kernel is asked again, and the duplicate is shut down only if the thread is still blocked on the same
  socket. Left alone are listening sockets, sockets whose other end is in this process (the wake-up pair of an event
  loop), and sockets for which another thread waits, too.
- Where the system doesn't tell what a thread is blocked on: all sockets that were created in the call.
"""

from __future__ import annotations

import functools
import os
import socket
import stat
import struct
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

from desist.calls.blocking_syscalls import blocking_fds
from desist.calls.layers import add_audit_hook, log_missing_layers
from desist.cancel.context import current_call

__all__ = ["install_audit_hook", "shut_down_sockets"]

_PEER_CREDENTIALS: int | None = getattr(socket, "SO_PEERCRED", None)


@functools.cache
def install_audit_hook() -> None:
    """Record each new socket in the `sockets` of the call whose thread creates it. Can't be undone; done once."""
    add_audit_hook(_on_audit_event)
    log_missing_layers()


def _on_audit_event(event: str, args: tuple[Any, ...]) -> None:
    # Called for every audit event of every thread of the process: the comparison comes first and nothing may raise.
    # `sockets` is appended to by the thread of the call alone; `shut_down_sockets` copies the list.
    if event == "socket.__new__":
        call = current_call.call
        if call is not None:
            call.sockets.append(weakref.ref(args[0]))


def shut_down_sockets(
    native_id: int, created: list[weakref.ref[socket.socket]], skip_if: Callable[[], bool], owned_threads: set[int]
) -> list[int]:
    """Shut down what a thread is blocked on. From any thread; repeated with back-off.

    Parameters:
        native_id: the system's number of the thread.
        created: the sockets that were created in the call.
        skip_if: whether the call is to be left alone. Evaluated after everything was found and before anything is
            ended: if the call is still the same then, all that was found belongs to it.
        owned_threads: the numbers of the call's threads, which may wait for the same socket.

    Returns:
        The inode numbers of the connections that were shut down; the caller counts each once.
    """
    waiting_for = blocking_fds(native_id)
    own = [sock for ref in list(created) if (sock := ref()) is not None]
    closed: list[int] = []
    with ExitStack() as held:
        foreign: list[socket.socket] = []
        if waiting_for:
            numbers = {fd for sock in own if (fd := sock.fileno()) >= 0}
            others = [fd for fd in waiting_for if fd not in numbers]
            foreign = [*_foreign_streams(native_id, others, held, owned_threads)]
        if skip_if():
            return closed
        for sock in own:
            with suppress(OSError):
                fd = sock.fileno()
                if fd >= 0 and (waiting_for is None or fd in waiting_for):
                    closed += _shut_down(sock, fd)
        for sock in foreign:
            closed += _shut_down(sock, sock.fileno())
    return closed


def _shut_down(sock: socket.socket, fd: int) -> list[int]:
    """Shut a socket down; return its inode number if it was a connected stream."""
    connected = sock.type & socket.SOCK_STREAM and _is_connected(sock)
    # Unbound: `SSLSocket.shutdown` would pull the TLS object out from under the reader.
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
        if connected:
            return [os.fstat(fd).st_ino]
    return []


def _is_connected(sock: socket.socket) -> bool:
    try:
        socket.socket.getpeername(sock)
    except OSError:
        return False
    return True


def _foreign_streams(
    native_id: int, fds: list[int], held: ExitStack, owned_threads: set[int]
) -> Iterator[socket.socket]:
    """Yield duplicates of the connections among `fds` for which this thread alone still waits; `held` closes them."""
    found: list[tuple[int, int, socket.socket]] = []
    for fd in fds:
        with suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                continue
            sock = held.enter_context(socket.socket(fileno=os.dup(fd)))
            if sock.type == socket.SOCK_STREAM and _is_connected(sock) and not _is_local(sock):
                found.append((fd, os.fstat(sock.fileno()).st_ino, sock))
    if not found:
        return
    waited = _fds_of_other_threads(native_id, {fd for fd, _, _ in found}, owned_threads)
    again = blocking_fds(native_id) or ()
    for fd, inode, sock in found:
        with suppress(OSError):
            if fd in again and os.fstat(fd).st_ino == inode and fd not in waited:
                yield sock


def _is_local(sock: socket.socket) -> bool:
    """Whether the socket listens, or its other end is in this process."""
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return True
    if sock.family != socket.AF_UNIX or _PEER_CREDENTIALS is None:
        return False
    pid: int = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, _PEER_CREDENTIALS, 12))[0]
    return pid == os.getpid()


def _fds_of_other_threads(native_id: int, fds: set[int], owned_threads: set[int]) -> set[int]:
    """Return those of `fds` for which a thread waits that isn't the call's."""
    waited: set[int] = set()
    try:
        threads = [int(name) for name in os.listdir("/proc/self/task")]
    except OSError:
        return waited
    for thread in threads:
        if thread != native_id and thread not in owned_threads:
            waited |= fds & set(blocking_fds(thread) or ())
    return waited
