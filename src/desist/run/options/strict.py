"""Refusing what isn't supported, by name: a parameter that does nothing is worse than one that is missing."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from desist.exceptions import UnsupportedError

__all__ = ["RejectUnknownOptions", "refuse_unknown"]


def refuse_unknown(where: str, unknown: Mapping[str, Any], *, unless_off: Collection[str] = ()) -> None:
    """Raise `UnsupportedError` naming the parameters that `where` doesn't have, if there are any.

    Parameters:
        unless_off: those that are let through when they are switched off: they have the effect they ask for, none.
    """
    refused = [name for name, value in unknown.items() if name not in unless_off or value not in (None, False, [], ())]
    if refused:
        names = ", ".join(f"{name}=" for name in sorted(refused))
        raise UnsupportedError(f"{where} has no parameter {names}: desist doesn't support it; leave it out")


@cache
def _accepted(kind: type) -> tuple[frozenset[str], bool]:
    parameters = inspect.signature(kind.__init__).parameters.values()  # type: ignore[misc]
    return frozenset(p.name for p in parameters), any(p.kind is p.VAR_KEYWORD for p in parameters)


class RejectUnknownOptions:
    """Base of public classes: an unknown keyword is an `UnsupportedError` that names it."""

    if not TYPE_CHECKING:  # type checkers see the real signature

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            accepted, takes_any = _accepted(cls)
            if not takes_any:
                refuse_unknown(cls.__name__, {name: 0 for name in kwargs if name not in accepted})
            return super().__new__(cls)
