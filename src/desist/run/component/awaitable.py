"""Making an async method from a method that may block: the same code, run in a thread."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from desist.runtime.daemon_thread import to_daemon_thread

__all__ = ["awaitable"]

S = TypeVar("S")
P = ParamSpec("P")
T = TypeVar("T")


def awaitable(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Return the async form of a method. A cancel ends the wait at once; a write that has begun is completed."""

    async def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await to_daemon_thread(lambda: method(self, *args, **kwargs), "desist-db-call")

    call.__name__ = f"a{method.__name__}"
    call.__qualname__ = f"a{method.__name__}"
    call.__doc__ = f"Do what `{method.__name__}` does, in another thread."
    return call
