"""Copy session state, so that runs and stores share no objects. The state may contain any object of the program."""

from __future__ import annotations

import copy
from typing import Any

__all__ = ["copy_state"]


def copy_state(state: dict[Any, Any]) -> dict[Any, Any]:
    """Return a deep copy of a dict. Values that can't be copied (a lock, a connection) are shared.

    If another thread (abandoned work, for example) changes the dict meanwhile, the copy is started again.
    """
    while True:
        try:
            items = list(state.items())
            break
        except RecursionError:  # a subclass of RuntimeError; a retry would fail again
            raise
        except RuntimeError:  # the dict changed its size during the iteration
            continue
    return {key: _value(value) for key, value in items}


def _value(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, dict):
        try:
            return copy_state(value)
        except RecursionError:  # nested too deeply for Python's stack: share the value
            return value
    for _ in range(3):
        try:
            return copy.deepcopy(value)
        except RuntimeError:
            continue
        except Exception:  # a class may refuse to be copied with any exception
            break
    return value
