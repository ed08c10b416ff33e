"""Checks of the options `isolation`, `interrupt` and `grace` of tools.

Called when a tool is created and when it is added to an agent. Worker processes are in `desist.calls.process`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, get_args

from desist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from desist.calls.base import InterruptMode

__all__ = ["LINKED", "Isolation", "check_options", "check_reachable", "refuse_linked"]

#: Where sync code runs: in a worker thread or in a worker process.
Isolation = Literal["thread", "process"]
_INTERRUPTS = ("auto", "cooperative", "never")
#: Injected parameters that can't be passed to another process, because they refer to the run.
LINKED = frozenset({"agent", "team", "run_context", "cancel_token"})


def check_options(
    isolation: Isolation | None, interrupt: InterruptMode, grace: float | None, whose: str, *, is_async: bool = False
) -> None:
    """Raise `ConfigurationError` for invalid values and for values that contradict each other.

    Parameters:
        isolation: "thread" or "process"; None if not set.
        interrupt: "auto", "cooperative" or "never".
        grace: seconds between SIGTERM and SIGKILL; None for the grace of the run.
        whose: name of the tool, function step or toolkit for the message.
        is_async: whether the callable is async.
    """
    if isolation not in (None, *get_args(Isolation)):
        raise ConfigurationError(f"{whose}: isolation={isolation!r} is unknown: use 'thread' or 'process'")
    if interrupt not in _INTERRUPTS:
        raise ConfigurationError(f"{whose}: interrupt={interrupt!r} is unknown: use 'auto', 'cooperative' or 'never'")
    if is_async and interrupt != "auto":
        raise ConfigurationError(
            f"{whose} is async, so interrupt={interrupt!r} has no effect on it: use `with shield():` inside"
        )
    if isolation == "process" and interrupt == "cooperative":
        raise ConfigurationError(
            f"{whose}: interrupt='cooperative' has no effect with isolation='process', where a cancel sends SIGTERM: "
            "use 'auto' or 'never'"
        )
    if grace is not None and not grace >= 0:
        raise ConfigurationError(f"{whose}: grace={grace!r} must be 0 seconds or more")


def check_reachable(function: Callable[..., Any], whose: str, *, is_async: bool, defined: bool) -> None:
    """Raise `ConfigurationError` for a function that another process can't call.

    Parameters:
        function: the unwrapped callable: a plain function or a builtin.
        whose: name of the tool or function step for the message.
        is_async: whether the callable is async.
        defined: False while the function's module is still being executed.
    """
    from desist.calls.process.protocol import check_importable

    if is_async:
        raise ConfigurationError(
            f"{whose} is async, so isolation='process' can't apply to it: make it a plain def with asyncio.run() "
            "inside, or remove isolation='process'"
        )
    if inspect.isfunction(function):
        check_importable(function, whose, defined=defined)


def refuse_linked(names: Iterable[str], whose: str) -> None:
    """Raise `ConfigurationError` if one of the injected parameters can't be passed to another process."""
    for name in names:
        if name in LINKED:
            raise ConfigurationError(
                f"{whose} asks for '{name}', which can't be passed to another process (isolation='process'): remove "
                "the parameter. A cancel raises RunCancelled in that process"
            )
