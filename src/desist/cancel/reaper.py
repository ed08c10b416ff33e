"""One thread that keeps time for all runs: graces, deadlines, stalls, readers that were dropped.

Timers live here and not on an event loop, because a loop that user code blocks must not delay them. Whatever is
called here must be quick and must not block.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable

__all__ = ["Reaper", "Timer", "reaper"]

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


class Reaper:
    """The thread and its agenda. It starts with the first timer."""

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[Timer] = queue.SimpleQueue()
        self._agenda: list[tuple[float, int, Timer]] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def at(self, due: float, action: Callable[[], object]) -> Timer:
        """Call `action()` at `due` (seconds of `time.monotonic`), from the reaper's thread."""
        timer = Timer(due, action)
        if self._thread is None:
            self._start()
        self._inbox.put(timer)
        return timer

    def soon(self, action: Callable[[], object]) -> None:
        """Call `action()` as soon as possible. Safe in a finalizer: takes no lock that the caller could hold."""
        self._inbox.put(Timer(0.0, action))

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
        inbox, agenda = self._inbox, self._agenda
        while True:
            now = time.monotonic()
            while agenda and (agenda[0][0] <= now or agenda[0][2].action is None):
                _run(heapq.heappop(agenda)[2])
                now = time.monotonic()
            try:
                timer = inbox.get(timeout=agenda[0][0] - now if agenda else None)
            except queue.Empty:
                continue
            if timer.due <= now:
                _run(timer)
            else:
                heapq.heappush(agenda, (timer.due, next(_order), timer))
            del timer  # else the last run would live until the next timer

    def forget(self) -> None:
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
reaper = Reaper()
os.register_at_fork(after_in_child=reaper.forget)
