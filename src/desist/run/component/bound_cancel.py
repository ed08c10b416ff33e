"""The functions that cancel a run, as methods of an agent or workflow, with its database as `db=`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

__all__ = ["BoundCancel"]

P = ParamSpec("P")
T = TypeVar("T")


class BoundCancel(Generic[P, T]):
    """A descriptor: on an object with a `db` the function with that `db=`; on the class, the function itself."""

    def __init__(self, function: Callable[P, T]) -> None:
        self._function = function

    def __get__(self, owner: Any, kind: type | None = None) -> Callable[P, T]:
        if owner is None or owner.db is None:
            return self._function
        return functools.partial(self._function, db=owner.db)
