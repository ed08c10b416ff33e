"""One thread that keeps time for all runs: graces, deadlines, stalls, readers that were dropped.

Timers live here and not on an event loop, because a loop that user code blocks must not delay them. Whatever is
called here must be quick and must not block.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable

__all__ = ["Timer", "TimerThread", "reaper"]

log = logging.getLogger("desist.cancel")
_order = itertools.count()


class Timer:
    """Something to be done at a time, unless it is taken back."""

    __slots__ = ("action", "due")

    def __init__(self, due: float, action: Callable[[], object]) -> None:
        self.due = due
        self.action: Callable[[], object] | None = action

    def cancel(self) -> None:
        """Take it back."""
        self.action = None


class TimerThread:
    """The thread and its agenda. It starts with the first timer.

    It is woken only for a timer that is due before the time it would wake by itself: a cancel sets one for the end of
    the grace, and must not pay for a switch of threads.
    """

    def __init__(self) -> None:
        self._inbox: deque[Timer] = deque()  #: appending is atomic, so a finalizer may do it
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._wakes_at = -math.inf  #: while it is awake: it looks into the inbox again before it sleeps
        self._heap: list[tuple[float, int, Timer]] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def call_at(self, due: float, action: Callable[[], object]) -> Timer:
        """Call `action()` at `due` (seconds of `time.monotonic`), from the reaper's thread."""
        timer = Timer(due, action)
        if self._thread is None:
            self._start()
        self._put(timer)
        return timer

    def call_soon(self, action: Callable[[], object]) -> None:
        """Call `action()` as soon as possible. Safe in a finalizer: takes no lock that the caller could hold."""
        self._put(Timer(0.0, action))

    def _put(self, timer: Timer) -> None:
        self._inbox.append(timer)
        if timer.due < self._wakes_at:
            self._bell.put(None)

    def start(self) -> None:
        """Make sure that the thread runs."""
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="desist-reaper", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        agenda = self._heap
        while True:
            self._wakes_at = -math.inf
            self._sort_inbox()
            while agenda and (agenda[0][0] <= time.monotonic() or agenda[0][2].action is None):
                _run(heapq.heappop(agenda)[2])
            self._wakes_at = agenda[0][0] if agenda else math.inf
            if self._inbox:  # put while it was awake, without a ring
                continue
            self._sleep()

    def _sort_inbox(self) -> None:
        while self._inbox:
            timer = self._inbox.popleft()
            heapq.heappush(self._heap, (timer.due, next(_order), timer))

    def _sleep(self) -> None:
        pause = None if self._wakes_at == math.inf else max(0.0, self._wakes_at - time.monotonic())
        try:
            self._bell.get(timeout=pause)
        except queue.Empty:
            pass

    def reset_after_fork(self) -> None:
        """Start anew, in a forked child: the thread isn't here."""
        self.__init__()  # type: ignore[misc]


def _run(timer: Timer) -> None:
    action = timer.action
    if action is None:
        return
    try:
        action()
    except BaseException:  # whatever it was, the others' time must be kept
        log.exception("a timer failed: %r", action)


#: The reaper of this process.
reaper = TimerThread()
os.register_at_fork(after_in_child=reaper.reset_after_fork)
