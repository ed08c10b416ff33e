"""Wake a thread that waits on a `threading.Condition`, after an exception was sent to it.

`queue.Queue.get`, `Event.wait`, `Future.result`, `Semaphore.acquire` and `Barrier.wait` all wait in `Condition.wait`:
for a lock that is created for this one wait. Releasing that lock wakes the thread and no other. The pending exception
is raised as the thread returns from the lock, inside the `try` of `Condition.wait`, which takes its own lock again
first. A later `notify` finds a lock that is released already, which `Condition.notify` allows for.
"""

from __future__ import annotations

import contextlib
import threading
from itertools import islice
from operator import attrgetter, itemgetter

from desist.runtime.stack_sampling import iter_frames, sample_stack, with_gc_disabled

__all__ = ["wake_condition"]

_WAIT = threading.Condition.wait.__code__


def wake_condition(thread: int) -> None:
    """Wake a thread that waits on a condition; do nothing if it does something else. From any thread.

    Call this only while an exception is pending in the thread: otherwise its code would take the wake-up for a notice.
    A second call finds the lock released, or another wait.
    """
    stack = sample_stack(thread)
    if not stack or stack[0][0] is not _WAIT:
        return
    # The frame is read in one call of C code: see `stack_sampling`. If the thread has gone on since, the innermost
    # frame has no such variable, or the lock is released already.
    locks = map(itemgetter("waiter"), map(attrgetter("f_locals"), islice(iter_frames(thread), 1)))
    try:
        lock = with_gc_disabled(lambda: next(locks))
    except (KeyError, StopIteration):
        return
    with contextlib.suppress(RuntimeError, AttributeError):  # released already; not a lock
        lock.release()
