"""A few threads for work that must not delay a caller of `cancel()`: interrupting many calls, querying a database.

`hand_over` neither waits nor starts a thread: it puts the job into a queue, and the timer thread starts threads for
the queue. The threads are daemon threads, so that none delays the interpreter's exit.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable

from desist.runtime.fork_hooks import register_at_fork
from desist.runtime.timer_thread import timers

__all__ = ["HelperThreads", "asking_helpers", "interrupting_helpers"]

log = logging.getLogger("desist.cancel")

#: Seconds after which an idle thread ends.
IDLE = 10.0
#: How many pieces of shared work are worth another thread.
PIECES_PER_THREAD = 32

Job = Callable[[], object]


class HelperThreads:
    """At most `max_threads` threads, which take jobs in the order in which they were handed over.

    The lock protects the two counts. It is held for a few instructions, and by the timer thread while it starts
    threads; a caller of `hand_over` never takes it.
    """

    def __init__(self, name: str, max_threads: int) -> None:
        self._name, self._max_threads = name, max_threads
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._alive = self._busy = 0

    def hand_over(self, job: Job) -> None:
        """Call `job()` soon, in another thread. From any thread, with any lock held; returns at once."""
        self._jobs.put(job)
        timers.start()
        timers.call_soon(self._start_threads)  # after the job is in the queue: it counts the jobs

    def share(self, pieces: Iterable[Job], last: Job) -> None:
        """Call all `pieces`, which must not depend on one another, in all free threads; then call `last()` once.

        Called in one of these threads, which takes part. Returns when no piece is left to start; pieces may still run
        in other threads, and the thread that ends the last of them calls `last`.
        """
        left = deque(pieces)
        shared = _Shared(left, last)
        for _ in range(min(self._max_threads - 1, len(left) // PIECES_PER_THREAD)):
            self.hand_over(shared.work)
        shared.work()

    def _start_threads(self) -> None:
        """Start threads for the waiting jobs. In the timer thread, once for each job.

        Without any thread, and if none can be started, the jobs are done here: late timers are better than a cancel
        that is never carried out.
        """
        with self._lock:
            wanted = min(self._max_threads, self._busy + self._jobs.qsize())
            try:
                while self._alive < wanted:
                    threading.Thread(target=self._work, name=self._name, daemon=True).start()
                    self._alive += 1
            except RuntimeError:  # the system has no more threads, or the interpreter is ending
                if self._alive:
                    return
        while not self._alive:
            try:
                _call(self._jobs.get_nowait())
            except queue.Empty:
                return

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=IDLE)
            except queue.Empty:
                with self._lock:
                    # Under the lock: a job that is put after this is followed by a `_start_threads`, which waits for
                    # the lock and doesn't count this thread any more.
                    if self._jobs.empty():
                        self._alive -= 1
                        return
                continue
            with self._lock:
                self._busy += 1
            _call(job)
            del job
            with self._lock:
                self._busy -= 1

    def reset_after_fork(self) -> None:
        """Reset, in a forked child: the threads don't exist there, and the jobs are the parent's."""
        self.__init__(self._name, self._max_threads)  # type: ignore[misc]


class _Shared:
    """Pieces of work that several threads take; `popleft` is atomic, so each piece is taken once."""

    def __init__(self, left: deque[Job], last: Job) -> None:
        self._left, self._last = left, last
        self._lock = threading.Lock()
        self._open, self._finished = len(left), False  #: pieces that aren't done; whether `last` is called or was

    def work(self) -> None:
        """Call pieces until none is left to start. In several threads; a thread that comes late finds none."""
        done = 0
        while True:
            try:
                piece = self._left.popleft()
            except IndexError:
                break
            _call(piece)
            done += 1
        with self._lock:
            self._open -= done
            is_last = not self._open and not self._finished
            self._finished = self._finished or is_last
        if is_last:
            _call(self._last)


def _call(job: Job) -> None:
    try:
        job()
    except Exception:  # the other jobs must be done
        log.exception("a job of a helper thread failed: %r", job)


#: Interrupt the calls of cancelled runs. Separate from the others: a database that hangs must not delay these.
interrupting_helpers = HelperThreads("desist-interrupt", 4)
#: Query databases and cancellation managers.
asking_helpers = HelperThreads("desist-ask", 4)


def _reset_after_fork() -> None:
    interrupting_helpers.reset_after_fork()
    asking_helpers.reset_after_fork()


register_at_fork(after_in_child=_reset_after_fork)
