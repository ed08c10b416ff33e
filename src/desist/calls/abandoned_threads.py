"""The abandoned code that still occupies a thread of this process."""

from __future__ import annotations

from desist.calls.base import CallPart
from desist.runtime.fork_hooks import register_at_fork

__all__ = ["abandoned_threads", "add_abandoned_thread", "remove_abandoned_thread"]

_abandoned: set[CallPart] = set()


def add_abandoned_thread(part: CallPart) -> None:
    """Add code that could not be stopped. From any thread.

    Its thread sets `ended` before it calls `remove_abandoned_thread`, and this reads `ended` after adding: so the code
    leaves the set, whichever thread comes first.
    """
    _abandoned.add(part)
    if part.ended:
        _abandoned.discard(part)


def remove_abandoned_thread(part: CallPart) -> None:
    """Remove code that has ended; do nothing if it isn't abandoned."""
    _abandoned.discard(part)


def abandoned_threads() -> list[CallPart]:
    """Return the abandoned code that still runs."""
    return list(_abandoned)


register_at_fork(after_in_child=_abandoned.clear)
