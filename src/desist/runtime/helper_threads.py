"""A few threads for what a caller of `cancel()` must not be held by: interrupting many calls, asking a database.

Handing over neither waits nor starts a thread: a job is put into a queue, and the reaper sees to it that somebody
takes it. Daemon threads, so that none holds the interpreter's exit. Must know nothing of runs.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable

from desist.runtime.timer_thread import reaper

__all__ = ["HelperThreads", "asking_helpers", "interrupting_helpers"]

log = logging.getLogger("desist.cancel")

#: Seconds after which an idle thread ends.
IDLE = 10.0
#: How many pieces of shared work make another thread worth while.
WORTH = 32

Job = Callable[[], object]


class HelperThreads:
    """At most `most` threads, and what they have to do, in the order in which it was handed over."""

    def __init__(self, name: str, most: int) -> None:
        self._name, self._most = name, most
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._alive = self._busy = 0

    def hand_over(self, job: Job) -> None:
        """Have `job()` done soon, in another thread. From any thread; returns at once."""
        self._jobs.put(job)
        reaper.start()
        reaper.call_soon(self._staff)

    def share(self, pieces: Iterable[Job], last: Job) -> None:
        """Do all `pieces`, which don't depend on one another, with whoever is free; then call `last()` once.

        Called in one of these threads, which takes part. It returns when no piece is left to begin.
        """
        left = deque(pieces)
        shared = _Shared(left, last)
        for _ in range(min(self._most - 1, len(left) // WORTH)):
            self.hand_over(shared.work)
        shared.work()

    def _staff(self) -> None:
        """Start threads for what waits. Called by the reaper."""
        with self._lock:
            wanted = min(self._most, self._busy + self._jobs.qsize())
            try:
                while self._alive < wanted:
                    threading.Thread(target=self._work, name=self._name, daemon=True).start()
                    self._alive += 1
            except RuntimeError:  # the system has no more threads, or the interpreter is ending
                if self._alive:
                    return
        while not self._alive:  # nobody else will do it
            try:
                _do(self._jobs.get_nowait())
            except queue.Empty:
                return

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=IDLE)
            except queue.Empty:
                with self._lock:
                    if self._jobs.empty():  # what is put from here on is seen by `_staff`, which comes after it
                        self._alive -= 1
                        return
                continue
            with self._lock:
                self._busy += 1
            _do(job)
            del job
            with self._lock:
                self._busy -= 1

    def forget(self) -> None:
        """Start anew, in a forked child: the threads aren't here, and what they had to do is the parent's."""
        self.__init__(self._name, self._most)  # type: ignore[misc]


class _Shared:
    """Pieces of work that several threads take from."""

    def __init__(self, left: deque[Job], last: Job) -> None:
        self._left, self._last = left, last
        self._lock = threading.Lock()
        self._open, self._over = len(left), False  #: pieces that aren't done; whether `last` was called

    def work(self) -> None:
        """Do pieces until none is left to begin."""
        done = 0
        while True:
            try:
                piece = self._left.popleft()
            except IndexError:
                break
            _do(piece)
            done += 1
        with self._lock:
            self._open -= done
            ends = not self._open and not self._over
            self._over = self._over or ends
        if ends:
            _do(self._last)


def _do(job: Job) -> None:
    try:
        job()
    except Exception:  # whatever it was, the others must be done
        log.exception("something could not be interrupted: %r", job)


#: Who interrupts the work of cancelled runs: never held up by a database.
interrupting_helpers = HelperThreads("desist-interrupt", 4)
#: Who asks databases and managers.
asking_helpers = HelperThreads("desist-ask", 4)


def _forget_in_child() -> None:
    interrupting_helpers.forget()
    asking_helpers.forget()


os.register_at_fork(after_in_child=_forget_in_child)
