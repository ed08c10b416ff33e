"""Connections in use by a run, so that the canceller can shut them down from its own thread.

A task that is cancelled closes its socket itself, once its loop gets to it. That is late when the loop is busy or
blocked; `shutdown()` from the canceller's thread isn't. Whoever speaks to a provider notes the raw socket of a
request while it is in use, and only then: a pooled connection may serve another run next.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import socket
import threading
from collections.abc import Iterator

from desist.cancel.context import ConnectionOwner, current_owner
from desist.cancel.token import current_token

__all__ = ["Upstream", "current_upstream", "upstream"]

_current: contextvars.ContextVar[Upstream | None] = contextvars.ContextVar("desist_upstream", default=None)


class Upstream:
    """The sockets of one request to a provider."""

    __slots__ = ("_lock", "_owner", "_shut_down", "_sockets", "closed", "shut")

    def __init__(self, owner: ConnectionOwner | None = None) -> None:
        self._owner = owner
        self._lock = threading.Lock()
        self._sockets: dict[int, socket.socket] = {}
        self._shut_down: list[socket.socket] = []  # kept, so that a socket that is used again isn't counted twice
        self.shut = False  #: whether the canceller was here
        self.closed = 0  #: how many connections it closed

    def hold(self, sock: socket.socket) -> None:
        """Note a socket as in use; if the cancel came first, it is shut down at once."""
        with self._lock:
            self._sockets[id(sock)] = sock
            if not self.shut:
                return
        self.shutdown()

    def release(self, sock: socket.socket) -> None:
        """Forget a socket: its request is over."""
        with self._lock:
            self._sockets.pop(id(sock), None)

    def release_all(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._sockets.clear()
            self._shut_down.clear()

    def shutdown(self) -> None:
        """Shut every socket in use down, from any thread. Closing is left to the owner."""
        with self._lock:
            self.shut = True
            held, self._sockets = list(self._sockets.values()), {}
            # Under the lock: whoever has released a socket may close it, or lend it to another run, right after.
            fresh = [sock for sock in held if _shut(sock) and all(sock is not known for known in self._shut_down)]
            self._shut_down += fresh
            closed = len(fresh)
            self.closed += closed
        if closed and self._owner is not None:
            self._owner.connections_closed(closed)


def _shut(sock: socket.socket) -> bool:
    """Shut one down, from any thread; return whether there was something to shut."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return False  # closed already, or not connected
    except TypeError:  # a socket of uvloop's, which can't
        return _shutdown_duplicate(sock)
    return True


def _shutdown_duplicate(sock: socket.socket) -> bool:
    try:
        fd = os.dup(sock.fileno())
    except (OSError, ValueError):
        return False
    with socket.socket(fileno=fd) as double:
        try:
            double.shutdown(socket.SHUT_RDWR)
        except OSError:
            return False
    return True


def current_upstream() -> Upstream | None:
    """Return the request that this task works for, or None outside of one."""
    return _current.get()


@contextlib.contextmanager
def upstream() -> Iterator[Upstream]:
    """Open the block in which one request to a provider is made.

    Don't hold it open across the `yield` of a generator that another task drives.
    """
    request = Upstream(current_owner())
    token = current_token()
    undo = token.on_cancel(request.shutdown, urgent=True)
    mark = _current.set(request)
    try:
        yield request
    finally:
        with contextlib.suppress(ValueError):  # closed by another task, in another context
            _current.reset(mark)
        undo()
        if token.cancelled:  # decided, though the canceller may not be here yet: what is in use is closed, and counted
            request.shutdown()
        request.release_all()
