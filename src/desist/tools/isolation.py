"""Where a tool runs and how it may be stopped: the three options of `Function` on that, and what they ask of a tool.

Called when a tool is made and when an agent takes it. The processes themselves are in `desist.calls.process`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, get_args

from desist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from desist.calls.base import InterruptMode

__all__ = ["LINKED", "Isolation", "check_options", "check_reachable", "refuse_linked"]

#: Where sync code runs: in a worker thread, or in a process of its own.
Isolation = Literal["thread", "process"]
_INTERRUPTS = ("auto", "cooperative", "never")
#: What desist fills in and no other process can be given: it is linked to the run.
LINKED = frozenset({"agent", "team", "run_context", "cancel_token"})


def check_options(
    isolation: Isolation | None, interrupt: InterruptMode, grace: float | None, whose: str, *, is_async: bool = False
) -> None:
    """Raise `ConfigurationError` for a value that isn't one, and for values that contradict each other.

    Parameters:
        isolation: "thread" or "process"; None: not said.
        interrupt: "auto", "cooperative" or "never".
        grace: seconds between SIGTERM and SIGKILL; None: those of the run.
        whose: how it is called in the error.
        is_async: whether it must be awaited.
    """
    if isolation not in (None, *get_args(Isolation)):
        raise ConfigurationError(f"{whose}: isolation={isolation!r} isn't known: use 'thread' or 'process'")
    if interrupt not in _INTERRUPTS:
        raise ConfigurationError(f"{whose}: interrupt={interrupt!r} isn't known: use 'auto', 'cooperative' or 'never'")
    if is_async and interrupt != "auto":
        raise ConfigurationError(
            f"{whose} is async, so interrupt={interrupt!r} has no effect on it: use `with shield():` inside"
        )
    if isolation == "process" and interrupt == "cooperative":
        raise ConfigurationError(
            f"{whose}: interrupt='cooperative' has no meaning in a process of its own, which is told by SIGTERM: "
            "use 'auto' or 'never'"
        )
    if grace is not None and not grace >= 0:
        raise ConfigurationError(f"{whose}: grace={grace!r} must be 0 seconds or more")


def check_reachable(function: Callable[..., Any], whose: str, *, is_async: bool, defined: bool) -> None:
    """Raise `ConfigurationError` for a function that another process can't call.

    Parameters:
        function: what is called, bare: a plain function or a builtin.
        whose: how it is called in the error.
        is_async: whether it must be awaited.
        defined: False while its module is still being run.
    """
    from desist.calls.process.protocol import check_importable

    if is_async:
        raise ConfigurationError(
            f"{whose} is async, so it runs on a loop and not in a process of its own: make it a plain def, "
            "with asyncio.run() inside, or leave isolation='process' out"
        )
    if inspect.isfunction(function):
        check_importable(function, whose, defined=defined)


def refuse_linked(names: Iterable[str], whose: str) -> None:
    """Raise `ConfigurationError` for the first of the filled-in parameters that can't leave this process."""
    for name in names:
        if name in LINKED:
            raise ConfigurationError(
                f"{whose} asks for '{name}', which can't be given to another process (isolation='process'): take the "
                "parameter out. A cancel arrives there as RunCancelled, by itself"
            )
