"""Cancel all live runs of the process: on SIGTERM, and when the interpreter exits."""

from __future__ import annotations

import atexit
import sys
import time

from desist.cancel.reason import Source
from desist.cancel.registry import RunHandle, registry
from desist.runtime.background_loop import refuse_runs  # its exit handler must be registered before this module's

__all__ = ["drain", "stop_all"]


def drain(timeout: float = 2.0) -> None:
    """Cancel all live runs and wait until they have settled, for at most `timeout` seconds in all.

    Not on an event loop: the runs of that loop could not settle. A second call finds no live run and returns at once.
    """
    by_user = getattr(sys, "last_type", None) is KeyboardInterrupt
    source = Source.interrupt if by_user else Source.shutdown
    deadline = time.monotonic() + timeout
    for root in stop_all(source, "the interpreter is ending"):
        root.settled.wait(max(0.0, deadline - time.monotonic()))


def stop_all(source: Source, text: str) -> list[RunHandle]:
    """Cancel all live runs without waiting; return the roots of their trees. Safe to call from any thread."""
    roots = list({id(run.root): run.root for run in registry.live()}.values())
    for root in roots:
        root.stop(source, text)
    return roots


# Exit handlers run in reverse order. The handler of the background loop is registered by the import above, so it runs
# after this one. A module that the runs need registers after this one, and calls `drain` in its own handler first.
def _exit() -> None:
    drain()
    refuse_runs()


atexit.register(_exit)
