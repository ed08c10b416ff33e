"""New ids for runs and messages, and ids of programs as text.

`os.urandom` is called once for many ids. Each call releases the GIL, so when many runs are cancelled at once, one call
per id would let another thread run between any two of them.
"""

from __future__ import annotations

import os
import uuid
from collections import deque
from typing import Any

from desist.exceptions import ConfigurationError
from desist.runtime.fork_hooks import register_at_fork

__all__ = ["id_text", "new_id", "new_uuid", "require_id"]

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


def id_text(value: Any, name: str) -> str | None:
    """Return an id as text; None for None. A UUID, a number or an object with a `__str__` becomes its text.

    Parameters:
        name: the parameter, for errors.

    Raises:
        ConfigurationError: the value has no text that stands for it, or a text that no database can store.
    """
    if value is None:
        return None
    if isinstance(value, str):
        text = str.__str__(value)
    elif _has_text(value):
        text = str(value)
    else:
        raise ConfigurationError(
            f"{name}={value!r:.80} must be a text, a UUID, a whole number or an object with a text"
        )
    if not _is_unicode(text):
        raise ConfigurationError(f"{name}={text!r:.80} must be Unicode text: no database stores half a surrogate pair")
    return text


def require_id(value: Any, name: str, *, may_be_empty: bool = False) -> str:
    """Do the same for an id that must be given.

    Raises:
        ConfigurationError: also if the id is None; or empty, unless that is allowed.
    """
    text = id_text(value, name)
    if text is None or not (text or may_be_empty):
        raise ConfigurationError(f"{name}={value!r} names nothing: give an id, such as event.run_id")
    return text


def _has_text(value: Any) -> bool:
    if isinstance(value, bool | bytes | bytearray | BaseException):
        return False
    return isinstance(value, int) or getattr(type(value), "__str__") is not object.__str__  # noqa: B009 - mypy compares the types


def _is_unicode(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False
