"""The interpreter's switch interval while tool threads run.

One busy Python thread holds the interpreter lock for 5 ms at a time, so a cancel takes 16-21 ms to get through (p99),
with two of them 47-57 ms; at 0.1 ms it takes 1-2 ms, and the busy threads' loss is within the noise. The setting
belongs to the whole process: it is changed while at least one call runs in a worker thread, and restored after that.
"""

from __future__ import annotations

import sys
import threading

__all__ = ["lower_switch_interval", "restore_switch_interval", "set_switch_interval"]

_lock = threading.Lock()
_wanted: float | None = 1e-4
_working = 0
_before: float | None = None


def set_switch_interval(seconds: float | None) -> None:
    """Set the interval that is used while tool threads run; None leaves that of the interpreter unchanged.

    Parameters:
        seconds: more than 0; the default of the interpreter is 0.005.

    Raises:
        ValueError: `seconds` is not more than 0.
    """
    global _wanted
    if seconds is not None and seconds <= 0:
        raise ValueError(f"the switch interval must be more than 0 seconds, not {seconds}")
    _wanted = seconds


def lower_switch_interval() -> None:
    """Count a call that starts in a worker thread; the first lowers the interval. In that thread."""
    global _working, _before
    with _lock:
        _working += 1
        if _working == 1 and _wanted is not None and sys.getswitchinterval() > _wanted:
            _before = sys.getswitchinterval()
            sys.setswitchinterval(_wanted)


def restore_switch_interval() -> None:
    """Count a call that has ended; the last restores the interval. In its thread, once for each `lower_...`."""
    global _working, _before
    with _lock:
        _working -= 1
        if _working == 0 and _before is not None:
            sys.setswitchinterval(_before)
            _before = None
