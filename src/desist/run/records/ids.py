"""Fresh ids of runs and messages. Called by whatever makes one; knows nothing of either.

Randomness is drawn from the system for many ids at a time: each draw lets go of the interpreter lock, and at a cancel
of many runs other threads would take it between any two of them.
"""

from __future__ import annotations

import os
import uuid
from collections import deque

__all__ = ["new_id", "new_uuid"]

_SIZE, _MANY = 16, 64  # bytes of an id, and how many are drawn at once
_drawn: deque[bytes] = deque()  #: each is used once: taking one is atomic
os.register_at_fork(after_in_child=_drawn.clear)


def new_uuid() -> uuid.UUID:
    """Return a random UUID (version 4)."""
    try:
        drawn = _drawn.pop()
    except IndexError:
        fresh = os.urandom(_SIZE * _MANY)
        drawn, *rest = (fresh[at : at + _SIZE] for at in range(0, len(fresh), _SIZE))
        _drawn.extend(rest)
    return uuid.UUID(bytes=drawn, version=4)


def new_id() -> str:
    """Return a fresh id, as text."""
    return str(new_uuid())
