"""Reject unknown parameters by name, because ignoring a parameter silently is worse than an error."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, TypeVar

from desist.exceptions import UnsupportedError

__all__ = ["refuse_unknown", "reject_unknown_options"]

T = TypeVar("T")


def refuse_unknown(where: str, unknown: Mapping[str, Any], *, unless_off: Collection[str] = ()) -> None:
    """Raise `UnsupportedError` with the names of the unknown parameters, if there are any.

    Parameters:
        where: name of the function or class, for the message.
        unknown: the unknown parameters and their values.
        unless_off: parameters that are accepted with None, False or an empty value.
    """
    refused = [name for name, value in unknown.items() if name not in unless_off or value not in (None, False, [], ())]
    if refused:
        names = ", ".join(f"{name}=" for name in sorted(refused))
        raise UnsupportedError(f"{where} has no parameter {names}: desist doesn't support it; leave it out")


def reject_unknown_options(kind: type[T]) -> type[T]:
    """Decorate a class to raise `UnsupportedError` for unknown keywords before `__init__` is called."""

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
