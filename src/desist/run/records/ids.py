"""New ids for runs and messages.

`os.urandom` is called once for many ids. Each call releases the GIL, so when many runs are cancelled at once, one call
per id would let another thread run between any two of them.
"""

from __future__ import annotations

import os
import uuid
from collections import deque

from desist.runtime.fork_hooks import register_at_fork

__all__ = ["new_id", "new_uuid"]

_SIZE, _MANY = 16, 64  # bytes per id, and ids per call of `os.urandom`
_drawn: deque[bytes] = deque()  #: unused random bytes. `pop` is atomic, so no two threads get the same item
register_at_fork(after_in_child=_drawn.clear)  # parent and child must not use the same bytes


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
    """Return a new id as text."""
    return str(new_uuid())
