"""The setting that turns the tracking of started work on and off."""

from __future__ import annotations

__all__ = ["is_work_tracked", "set_work_tracking"]

_enabled = True


def set_work_tracking(enabled: bool) -> None:
    """Set whether a cancel also stops the threads, jobs, tasks and child processes that a call has started.

    On by default: then some functions of the standard library are wrapped when the first tool or function step runs.
    Turn the setting off before that, if a program can't have them wrapped; a receipt doesn't name such work then.
    Calls that have begun keep the setting that they began with.

    Parameters:
        enabled: whether the work of calls that begin from now on is tracked.
    """
    global _enabled
    _enabled = enabled


def is_work_tracked() -> bool:
    """Return the setting."""
    return _enabled
