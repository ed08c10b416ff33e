"""Keep abandoned threads from delaying the exit of the interpreter.

At exit the interpreter joins all threads that are not daemon threads, and the threads of executors. An abandoned thread
may sleep for hours. `detach_from_exit` makes the exit ignore a thread, as if the thread were a daemon thread: it ends
with the process. All other threads are joined as ever. Until the exit begins, nothing about the thread changes.

CPython has no documented way for this: `daemon` can't be set on a thread that runs. So private names are used, where
the version has them: `_tstate_lock` up to 3.12; `_handle` in 3.13.0, `_os_thread_handle` in later versions; and
`_thread_shutdown` from 3.13 on; `_threads` of an executor. Where a name is missing, the thread is waited for.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

from desist.runtime.fork_hooks import register_at_fork

__all__ = ["attach_to_exit", "attach_to_pool", "detach_from_exit", "detach_from_pool", "watch_exit"]

_threading: Any = threading  # its private names are unknown to type checkers
_lock = threading.Lock()
_detached: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
_exiting = False


@functools.cache
def watch_exit() -> None:
    """Get ready for the exit, once. Else a thread that is abandoned while the exit waits for it is waited for.

    From any thread. `detach_from_exit` calls this function.
    """
    register = getattr(threading, "_register_atexit", None)
    if register is None:
        return
    try:
        # The functions run in reverse order of their registration. The import registers the one of the executors, which
        # joins their threads: `_begin_exit` must run before it.
        import concurrent.futures.thread  # noqa: F401

        register(_begin_exit)
    except RuntimeError:  # the interpreter is exiting
        pass


def detach_from_exit(thread: threading.Thread) -> None:
    """Have the exit of the interpreter not wait for `thread`. From any thread, with any lock of callers held.

    Also for daemon threads: those of executors are joined, too, and threads inherit the flag from the worker thread
    which starts them. Does nothing for a thread that has ended. A second call changes nothing.
    """
    watch_exit()
    with _lock:
        _detached.add(thread)
        exiting = _exiting
    if exiting:
        _mark_ended(thread)


def attach_to_exit(thread: threading.Thread) -> None:
    """Undo `detach_from_exit`, for a thread whose abandoned work has ended: it may be one of a pool, and go on there.

    From any thread. Has no effect once the exit has begun.
    """
    with _lock:
        _detached.discard(thread)


def detach_from_pool(thread: threading.Thread, pool: ThreadPoolExecutor) -> None:
    """Have `pool.shutdown()` not wait for `thread`, and have the pool start another thread with its next job.

    `asyncio.run` shuts the default pool down before it returns, and a pool whose threads are all abandoned does no
    other work. From any thread; does nothing for a pool that is being shut down, which may be waiting for the thread.
    """
    _change_threads(pool, lambda threads: threads.discard(thread))


def attach_to_pool(thread: threading.Thread, pool: ThreadPoolExecutor) -> None:
    """Undo `detach_from_pool`, for a thread whose abandoned work has ended: it takes jobs of the pool again."""
    if thread.is_alive():
        _change_threads(pool, lambda threads: threads.add(thread))


def _change_threads(pool: Any, change: Callable[[set[threading.Thread]], None]) -> None:
    lock, threads = getattr(pool, "_shutdown_lock", None), getattr(pool, "_threads", None)
    if lock is None or not isinstance(threads, set):  # another version of Python
        return
    with lock:
        if not getattr(pool, "_shutdown", True):
            change(threads)


def _begin_exit() -> None:
    """Take the detached threads out of what the interpreter joins next. In the exiting thread, once."""
    global _exiting
    with _lock:
        _exiting = True
        threads = list(_detached)
    if hasattr(threading, "_thread_shutdown"):
        # The original spins while a thread runs that is marked as ended.
        _threading._thread_shutdown = _join_threads
    for thread in threads:
        _mark_ended(thread)


def _mark_ended(thread: threading.Thread) -> None:
    """Release all that wait in `thread.join()`, now and later. Only when the interpreter is exiting."""
    handle: Any = getattr(thread, "_os_thread_handle", None) or getattr(thread, "_handle", None)
    lock: Any = getattr(thread, "_tstate_lock", None)
    try:
        if lock is not None:
            lock.release()
        elif handle is not None and hasattr(threading, "_thread_shutdown"):
            handle._set_done()
    except (AttributeError, RuntimeError):  # another version of Python; the thread has just ended
        pass


def _join_threads() -> None:
    """Join the threads that the interpreter would join, without the detached ones. In the exiting thread.

    A thread that is detached meanwhile ends its `join()`.
    """
    spared = {threading.current_thread(), threading.main_thread()}
    while threads := [t for t in threading.enumerate() if not (t.daemon or t in spared or t in _detached)]:
        for thread in threads:
            thread.join()


def _reset_after_fork() -> None:
    """Forget the threads of the parent, in a forked child, where they don't exist."""
    global _lock
    _lock = threading.Lock()
    _detached.clear()


register_at_fork(after_in_child=_reset_after_fork)
