"""Refusing unknown parameters by name: a parameter without effect is worse than a missing one."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, TypeVar

from desist.exceptions import UnsupportedError

__all__ = ["refuse_unknown", "reject_unknown_options"]

T = TypeVar("T")


def refuse_unknown(where: str, unknown: Mapping[str, Any], *, unless_off: Collection[str] = ()) -> None:
    """Raise `UnsupportedError` naming the parameters that `where` does not have, if there are any.

    Parameters:
        unless_off: parameters that are accepted if switched off, because desist then does what they ask for: nothing.
    """
    refused = [name for name, value in unknown.items() if name not in unless_off or value not in (None, False, [], ())]
    if refused:
        names = ", ".join(f"{name}=" for name in sorted(refused))
        raise UnsupportedError(f"{where} has no parameter {names}: desist doesn't support it; leave it out")


def reject_unknown_options(kind: type[T]) -> type[T]:
    """Raise `UnsupportedError` for an unknown keyword of a class or its subclasses, before `__init__`. A decorator."""

    def __new__(cls: type, *args: Any, **kwargs: Any) -> Any:
        accepted, takes_any = _accepted(cls)
        if not takes_any:
            refuse_unknown(cls.__name__, {name: 0 for name in kwargs if name not in accepted})
        return object.__new__(cls)

    kind.__new__ = __new__  # type: ignore[method-assign]  # type checkers see the real signature
    return kind


@cache
def _accepted(kind: type) -> tuple[frozenset[str], bool]:
    parameters = inspect.signature(kind.__init__).parameters.values()  # type: ignore[misc]
    return frozenset(p.name for p in parameters), any(p.kind is p.VAR_KEYWORD for p in parameters)
