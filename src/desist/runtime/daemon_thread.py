"""Blocking work of the library itself beside an event loop: name look-ups, slow imports, certificates, disk reads.

Each call has a daemon thread instead of a thread of the loop's executor: a call that is abandoned then delays neither
the end of the loop nor the exit of the interpreter, nor any other call.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from desist.runtime.fork_hooks import register_at_fork

__all__ = ["start_daemon_thread", "to_daemon_thread"]

T = TypeVar("T")

#: Seconds for which a thread without work waits for more.
FREE = 1.0


def start_daemon_thread(work: Callable[..., object], name: str, *args: Any) -> threading.Thread:
    """Start a daemon thread and return it.

    Assign it only then: an attribute with a thread that never started would look as if the thread ran.

    Raises:
        RuntimeError: the system has no more threads, or the interpreter is ending.
    """
    thread = threading.Thread(target=work, args=args, name=name, daemon=True)
    thread.start()
    return thread


async def to_daemon_thread(work: Callable[[], T], name: str) -> T:
    """Call `work()` in a daemon thread called `name`; return its result or raise its exception.

    A task that is cancelled leaves at once; the thread runs to its end and its result is dropped.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Any] = loop.create_future()

    def body(free: Callable[[], None]) -> None:
        try:
            resolve, value = result.set_result, work()
        except BaseException as error:
            resolve, value = result.set_exception, error  # type: ignore[assignment]
        free()  # first: the task may need a thread again at once
        try:
            loop.call_soon_threadsafe(_resolve, result, resolve, value)
        except RuntimeError:
            pass  # the loop was closed meanwhile: no task awaits the result

    _threads.call(body, name)
    return await result  # type: ignore[no-any-return]


class _ReusedThreads:
    """Daemon threads that wait for a moment for more work, because starting one costs more than a read of a database.

    A job never waits for another one: if no thread is free, one is started.
    """

    def __init__(self) -> None:
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Forget the threads: they do not exist in a forked child."""
        self._lock = threading.Lock()
        self._free: list[queue.SimpleQueue[_Job]] = []  #: the inboxes of threads that wait

    def call(self, body: Callable[[Callable[[], None]], None], name: str) -> None:
        """Call `body(free)` in a thread. It calls `free()` when the thread can be given other work."""
        job = body, name
        with self._lock:
            inbox = self._free.pop() if self._free else None
        if inbox is not None:
            inbox.put(job)
        else:
            start_daemon_thread(self._serve, name, job)

    def _serve(self, job: _Job | None) -> None:
        inbox: queue.SimpleQueue[_Job] = queue.SimpleQueue()

        def free() -> None:
            with self._lock:
                self._free.append(inbox)

        while job is not None:
            body, threading.current_thread().name = job
            contextvars.Context().run(body, free)  # what a job sets is not for the next one
            job = body = None  # type: ignore[assignment]  # a waiting thread keeps nothing alive
            threading.current_thread().name = "desist-free"
            job = self._next(inbox)

    def _next(self, inbox: queue.SimpleQueue[_Job]) -> _Job | None:
        try:
            return inbox.get(timeout=FREE)
        except queue.Empty:
            with self._lock:
                if inbox in self._free:
                    self._free.remove(inbox)
                    return None
        return inbox.get()  # it was given work just now


_Job = tuple[Callable[[Callable[[], None]], None], str]
_threads = _ReusedThreads()
register_at_fork(after_in_child=_threads.reset_after_fork)


def _resolve(result: asyncio.Future[Any], resolve: Callable[[Any], None], value: Any) -> None:
    """Resolve the future on its loop, unless the awaiting task was cancelled."""
    if not result.done():
        resolve(value)
