"""Notice an injected exception that was raised in a finalizer or in a weak reference's callback, where it is lost.

A pending exception is raised when the thread enters its next Python function. Python calls finalizers and callbacks in
between, ignores what they raise, and reports it to `sys.unraisablehook`. The hook that is set here says nothing of an
injected exception, and has it sent again.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from desist.calls.async_exception import InjectedRunCancelled
from desist.cancel.context import current_call

__all__ = ["install_unraisable_hook"]


@functools.cache
def install_unraisable_hook() -> None:
    """Set the hook, once; it calls the hook that was set before. A program that sets its own later replaces it."""
    sys.unraisablehook = functools.partial(_on_unraisable, sys.unraisablehook)


def _on_unraisable(plain: Any, unraisable: sys.UnraisableHookArgs, /) -> None:
    # In the thread of the call, which has one pending exception at most: this one.
    call = current_call.call
    if call is None or not issubclass(unraisable.exc_type, InjectedRunCancelled):
        plain(unraisable)
        return
    call.exception_delivered = False
    call.exception_lost = True
