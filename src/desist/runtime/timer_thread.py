"""One thread with the timers of all runs: graces, deadlines, stalls, readers that were garbage collected.

Timers run here and not on an event loop, because user code that blocks a loop must not delay them. An action must be
quick and must not block: it delays all other timers.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable

from desist.runtime.daemon_thread import start_daemon_thread
from desist.runtime.fork_hooks import register_at_fork

__all__ = ["Timer", "TimerThread", "timers"]

log = logging.getLogger("desist.cancel")
_order = itertools.count()


class Timer:
    """An action to be called at a time."""

    __slots__ = ("action", "when")

    def __init__(self, when: float, action: Callable[[], object]) -> None:
        self.when = when  #: seconds of `time.monotonic`
        self.action: Callable[[], object] | None = action

    def cancel(self) -> None:
        """Prevent the call. From any thread; does nothing if the action was called, or is being called just now."""
        self.action = None


class TimerThread:
    """The thread and its heap of timers. The thread starts with the first timer.

    The thread is woken only for a timer that is due before the thread would wake by itself: a cancel sets a timer for
    the end of its grace, and must not pay for a switch of threads.

    Callers append to the inbox before they read `_wakes_at`; the thread writes `_wakes_at` before it reads the inbox.
    So of a caller and the thread that goes to sleep at least one sees the other, without a lock. The heap belongs to
    the thread. The lock protects only the start of the thread.
    """

    def __init__(self) -> None:
        self._inbox: deque[Timer] = deque()  #: appending is atomic, so a finalizer may do it
        self._wakeups: queue.SimpleQueue[None] = queue.SimpleQueue()  #: its `put` is reentrant
        self._wakes_at = -math.inf  #: when the thread wakes by itself; -inf while it is awake
        self._heap: list[tuple[float, int, Timer]] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def call_at(self, when: float, action: Callable[[], object]) -> Timer:
        """Call `action()` in this thread at `when` (seconds of `time.monotonic`). From any thread.

        Not from a finalizer: the first call takes the lock to start the thread.
        """
        timer = Timer(when, action)
        if self._thread is None:
            self._start()
        self._put(timer)
        return timer

    def call_soon(self, action: Callable[[], object]) -> None:
        """Call `action()` in this thread as soon as possible. From any thread, and safe in a finalizer.

        Takes no lock that the interrupted code could hold, and so doesn't start the thread: see `start`.
        """
        self._put(Timer(0.0, action))

    def _put(self, timer: Timer) -> None:
        self._inbox.append(timer)
        if timer.when < self._wakes_at:
            self._wakeups.put(None)

    def is_running_here(self) -> bool:
        """Whether this code runs in the timer thread."""
        return self._thread is threading.current_thread()

    def start(self) -> None:
        """Start the thread unless it runs. A second call does nothing."""
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = start_daemon_thread(self._work, "desist-timers")

    def _work(self) -> None:
        heap = self._heap
        while True:
            self._wakes_at = -math.inf
            self._drain_inbox()
            while heap and (heap[0][0] <= time.monotonic() or heap[0][2].action is None):
                _run(heapq.heappop(heap)[2])
            self._wakes_at = heap[0][0] if heap else math.inf
            if self._inbox:  # appended while the thread was awake, without a wake-up
                continue
            self._sleep()

    def _drain_inbox(self) -> None:
        while self._inbox:
            timer = self._inbox.popleft()
            heapq.heappush(self._heap, (timer.when, next(_order), timer))

    def _sleep(self) -> None:
        timeout = None
        if self._wakes_at != math.inf:
            timeout = min(max(0.0, self._wakes_at - time.monotonic()), threading.TIMEOUT_MAX)
        try:
            self._wakeups.get(timeout=timeout)  # a left-over wake-up only makes one turn too many
        except queue.Empty:
            pass

    def reset_after_fork(self) -> None:
        """Reset, in a forked child: the thread doesn't exist there, and the timers are the parent's."""
        self.__init__()  # type: ignore[misc]


def _run(timer: Timer) -> None:
    action = timer.action
    if action is None:
        return
    try:
        action()
    except BaseException:  # the other timers must run
        log.exception("the action of a timer failed: %r", action)


#: The timer thread of this process.
timers = TimerThread()
register_at_fork(after_in_child=timers.reset_after_fork)
