"""A step whose agent or workflow has an `arun` or `run` of the user's own: the step calls that.

The run that it starts by `super()` is a child of the step all the same: with its ids, its session, and cancelled with
the workflow. Its events go to the workflow's reader; if the user's code reads them itself, those that it yields do.
The user's code is a call like that of a function step.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from desist.calls.dispatch import call_user_code
from desist.run.component.step_opening import StepOpening

__all__ = ["call_overridden", "overridden_method"]


def overridden_method(component: Any) -> str | None:
    """Return the name of the method of the user's own: "arun", "run", or None. `arun` comes first."""
    for name in ("arun", "run"):
        owner = next((kind for kind in type(component).__mro__ if name in vars(kind)), None)
        if name in vars(component) or owner is None or owner.__module__.split(".")[0] != "desist":
            return name
    return None


async def call_overridden(
    opening: StepOpening, input: Any, method: str, timeout: float | None, take: Callable[[Any], object]
) -> Any:
    """Call the method where user code runs; return its value, or None if it gave events or text, piece by piece.

    Parameters:
        take: called with each piece.

    Raises:
        TimeoutError: it took longer than the timeout.
    """
    component = opening.component
    call, name = getattr(component, method), component.name or component.id
    with opening.current():
        async with asyncio.timeout(timeout):
            if method == "arun":
                return await call_user_code(lambda: _awaited(call(input), take), name=name, is_async=True)
            return await call_user_code(lambda: _drained(call(input), take), name=name, is_async=False)


async def _awaited(made: Any, take: Callable[[Any], object]) -> Any:
    if inspect.isawaitable(made):
        made = await made
    if not isinstance(made, AsyncIterator):
        return _drained(made, take)
    async with contextlib.aclosing(made):  # type: ignore[type-var]  # a reader or a generator
        async for piece in made:
            take(piece)
    return None


def _drained(made: Any, take: Callable[[Any], object]) -> Any:
    if not isinstance(made, Iterator):
        return made
    for piece in made:
        take(piece)
    return None
