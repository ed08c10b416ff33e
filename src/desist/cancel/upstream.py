"""The connections that a run uses, so that the canceller can shut them down from its own thread.

A task that is cancelled closes its socket itself, when its loop runs the task. That is late if the loop is busy or
blocked; `shutdown()` from the canceller's thread isn't. A client of a provider registers the raw socket of a request
while the socket is in use, and only then: a pooled connection may serve another run next.
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
    """The sockets of one request to a provider.

    The client's thread calls `hold` and `release`, the canceller calls `shutdown`. The lock is held during the system
    call `shutdown`, which doesn't block: a socket that was released is never shut down.
    """

    __slots__ = ("_lock", "_owner", "_shut_down", "_sockets", "closed", "shut")

    def __init__(self, owner: ConnectionOwner | None = None) -> None:
        self._owner = owner
        self._lock = threading.Lock()
        self._sockets: dict[int, socket.socket] = {}
        self._shut_down: list[socket.socket] = []  # references, so that a socket that is held again isn't counted twice
        self.shut = False  #: whether `shutdown` was called
        self.closed = 0  #: how many connections were shut down

    def hold(self, sock: socket.socket) -> None:
        """Register a socket as in use. If the cancel came first, the socket is shut down at once."""
        with self._lock:
            self._sockets[id(sock)] = sock
            if not self.shut:
                return
        self.shutdown()

    def release(self, sock: socket.socket) -> None:
        """Remove a socket whose request has ended. When this returns, the canceller doesn't touch it any more."""
        with self._lock:
            self._sockets.pop(id(sock), None)

    def release_all(self) -> None:
        """Remove all sockets."""
        with self._lock:
            self._sockets.clear()
            self._shut_down.clear()

    def shutdown(self) -> None:
        """Shut down every socket in use. From any thread; a second call shuts down only sockets held since.

        The client closes the sockets: closing here would free the number of a descriptor that another thread uses.
        """
        with self._lock:
            self.shut = True
            held, self._sockets = list(self._sockets.values()), {}
            # With the lock held: a client that has released a socket may close it or lend it to another run at once.
            fresh = [sock for sock in held if _shut(sock) and all(sock is not known for known in self._shut_down)]
            self._shut_down += fresh
            closed = len(fresh)
            self.closed += closed
        if closed and self._owner is not None:  # without the lock: the owner takes the lock of its tree
            self._owner.connections_closed(closed)


def _shut(sock: socket.socket) -> bool:
    """Shut a socket down; return whether it was connected."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return False  # closed already, or not connected
    except TypeError:  # a socket of uvloop, which has no `shutdown`
        return _shutdown_duplicate(sock)
    return True


def _shutdown_duplicate(sock: socket.socket) -> bool:
    try:
        fd = os.dup(sock.fileno())
    except (OSError, ValueError):
        return False
    with socket.socket(fileno=fd) as duplicate:
        try:
            duplicate.shutdown(socket.SHUT_RDWR)
        except OSError:
            return False
    return True


def current_upstream() -> Upstream | None:
    """Return the request that this task makes, or None."""
    return _current.get()


@contextlib.contextmanager
def upstream() -> Iterator[Upstream]:
    """Enter the block in which one request to a provider is made.

    The block must not stay open across the `yield` of a generator that another task runs.
    """
    request = Upstream(current_owner())
    token = current_token()
    remove = token.on_cancel(request.shutdown, urgent=True)
    previous = _current.set(request)
    try:
        yield request
    finally:
        with contextlib.suppress(ValueError):  # left by another task, in another context
            _current.reset(previous)
        remove()
        if token.cancelled:
            # Decided, and the canceller may not have called `shutdown` yet: the connections in use are counted, too.
            request.shutdown()
        request.release_all()
