"""The background loop: the event loop of runs of sync callers, in a daemon thread.

The loop starts on first use. A forked child starts its own. The loop is stopped when the interpreter exits, after the
live runs were cancelled and have settled (`desist.cancel.shutdown`) and the actions of `register_at_exit` were run.
"""

from __future__ import annotations

import _thread
import asyncio
import atexit
import sys
import threading
from collections.abc import Callable

from desist.exceptions import ConfigurationError, DesistError
from desist.runtime.daemon_thread import start_daemon_thread
from desist.runtime.fork_hooks import register_at_fork

__all__ = [
    "BackgroundLoop",
    "background_loop",
    "refuse_at_exit",
    "refuse_green_threads",
    "refuse_runs",
    "register_at_exit",
]

_exit_actions: list[Callable[[], object]] = []


class BackgroundLoop:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop, starting it if need be. From any thread.

        Raises:
            DesistError: the interpreter is ending.
            RuntimeError, OSError: the system has no more threads or descriptors.
        """
        loop = self._loop  # without the lock: assigned last, when the loop can be used
        if loop is not None:
            return loop
        with self._lock:
            if self._loop is None:
                refuse_at_exit()
                refuse_green_threads()
                loop = asyncio.new_event_loop()
                try:
                    self._thread = start_daemon_thread(self._work, "desist-loop", loop)
                except RuntimeError:
                    loop.close()
                    raise
                self._loop = loop
            return self._loop

    def is_running_here(self) -> bool:
        """Whether this code runs on the background loop."""
        return self._thread is not None and self._thread.ident == threading.get_ident()

    def ensure_not_on_loop(self) -> None:
        """Raise `RuntimeError` if this code runs on the background loop, where waiting for a run would deadlock."""
        if self.is_running_here():
            raise RuntimeError("run() would block the loop that it needs: in async code, await arun() instead")

    @staticmethod
    def _work(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()
        # After `close`: HTTP clients close their connections in the `finally` of their generators.
        loop.run_until_complete(loop.shutdown_asyncgens())

    def close(self, timeout: float = 1.0) -> None:
        """Stop the loop; wait at most `timeout` seconds for its thread. A second call does nothing.

        A thread that is still alive then (user code blocks the loop) keeps its loop, which must not be closed under it.
        """
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout)
        if not thread.is_alive():
            loop.close()

    def reset_after_fork(self) -> None:
        """Reset, in a forked child: the thread doesn't exist there, and another thread may have held the lock."""
        self._lock = threading.Lock()
        self._loop = self._thread = None


#: The background loop of this process.
background_loop = BackgroundLoop()


def refuse_at_exit() -> None:
    """Raise if no run can start any more, because the threads that runs need are stopped or frozen by now.

    Raises:
        DesistError: the interpreter is ending.
    """
    if _state.refuses_runs or sys.is_finalizing():
        raise DesistError("the interpreter is ending: no run can start any more")


def register_at_exit(action: Callable[[], object]) -> None:
    """Call `action()` when the interpreter exits, after the live runs have settled. The action must be quick."""
    _exit_actions.append(action)


def refuse_green_threads() -> None:
    """Raise if threads are replaced by green ones, which can't be interrupted, and block one another.

    Raises:
        ConfigurationError: gevent or eventlet has patched the threads.
    """
    # By the module, which wrappers of the function (ours, those of debuggers) have too.
    module = str(getattr(_thread.start_new_thread, "__module__", "")).split(".")[0]
    if module in ("gevent", "eventlet"):
        raise ConfigurationError(
            f"{module} has replaced threads by green threads, in which desist can stop nothing: leave them "
            "alone, as in gevent.monkey.patch_all(thread=False, queue=False, select=False) or "
            "eventlet.monkey_patch(thread=False, select=False)"
        )


def refuse_runs() -> None:
    """Let no run start any more: the live ones have settled, and the interpreter ends. Called once, at the exit."""
    _state.refuses_runs = True


class _State:
    refuses_runs = False


_state = _State()


def _exit() -> None:
    refuse_runs()
    for action in _exit_actions:
        action()
    background_loop.close()


# Registered before the exit handler of `desist.cancel.shutdown`, which imports this module: exit handlers run in
# reverse order, so the live runs have settled when `_exit` stops what they need.
atexit.register(_exit)
register_at_fork(after_in_child=background_loop.reset_after_fork)
