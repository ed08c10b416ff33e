"""The run and the call that this code works for.

The owner is a context variable: tasks and worker threads that a run starts inherit it. The current call is a
thread-local: it belongs to the worker thread, and code that the call starts elsewhere is not that call.
"""

from __future__ import annotations

import contextvars
import threading
from typing import Any, Protocol

__all__ = ["ConnectionOwner", "current_call", "current_owner", "set_owner"]


class ConnectionOwner(Protocol):
    """A run, as far as connections to providers concern it. `desist.calls.base.CallOwner` is the whole."""

    def connections_closed(self, count: int) -> None:
        """Add to the number of connections that the cancel closed. From the canceller's thread."""


class _CurrentCall(threading.local):
    """The `ThreadCall` that runs in this thread, or None."""

    call: Any = None


#: Set by the worker thread around user code; read by tokens, shields, the audit hook and the injected exception.
current_call = _CurrentCall()

_owner: contextvars.ContextVar[ConnectionOwner | None] = contextvars.ContextVar("desist_owner", default=None)


def current_owner() -> ConnectionOwner | None:
    """Return the run that this code works for, or None."""
    return _owner.get()


def set_owner(owner: ConnectionOwner | None) -> None:
    """Make `owner` the run that this context works for. None stands for no run."""
    _owner.set(owner)
