"""Copies of state, so that runs and stores share nothing. A session's state holds whatever a program put there."""

from __future__ import annotations

import copy
from typing import Any

__all__ = ["copy_state"]


def copy_state(state: dict[Any, Any]) -> dict[Any, Any]:
    """Return a deep copy of a dict; values that can't be copied (a lock, a connection) are shared.

    Abandoned work may change a dict while it is copied: then it is copied again.
    """
    while True:
        try:
            items = list(state.items())
            break
        except RecursionError:  # a RuntimeError, too, and trying again doesn't help
            raise
        except RuntimeError:  # it changed size meanwhile
            continue
    return {key: _value(value) for key, value in items}


def _value(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, dict):
        try:
            return copy_state(value)
        except RecursionError:  # nested deeper than Python's stack: what is in it is shared
            return value
    for _ in range(3):
        try:
            return copy.deepcopy(value)
        except RuntimeError:
            continue
        except Exception:  # any class may refuse to be copied, with any error
            break
    return value
