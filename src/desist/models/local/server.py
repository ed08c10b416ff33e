"""The parent's side of the local model: one running server per settings, shared by all callers.

The first caller starts the server, in a separate thread. The server runs until `stop()` or the end of the program. If a
caller is cancelled while the model loads, loading continues, and the next caller uses the loaded model. Called by
`chat` and the command line, from any loop and thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from concurrent.futures import Future

from desist.exceptions import ModelError
from desist.models.local.server_process import ModelServerProcess, ServerAddress, ServerSettings
from desist.models.local.weights import check_weights, find_weights, refuse_missing_runtime
from desist.runtime.fork_hooks import register_at_fork

__all__ = ["LocalServer", "ServerAddress", "ServerSettings"]

TICK = 0.011  #: seconds; the kernel counts CPU time in ticks of 10 ms
SAMPLE = 0.02  #: seconds between two samples of the CPU time

_shared: dict[ServerSettings, LocalServer] = {}
_shared_lock = threading.Lock()


class LocalServer:
    """Starts the child process on demand, and restarts it after it died. Thread-safe; may be used from any loop."""

    def __init__(self, settings: ServerSettings | None = None) -> None:
        self.settings = settings or ServerSettings()
        self._lock = threading.Lock()
        self._start: Future[ServerAddress] | None = None
        self._process: ModelServerProcess | None = None

    @classmethod
    def shared(cls, settings: ServerSettings) -> LocalServer:
        """Return this program's server for `settings`."""
        with _shared_lock:
            return _shared.setdefault(settings, cls(settings))

    async def ensure(self) -> ServerAddress:
        """Return the address of a running server. Start one if necessary, which takes about a second.

        A cancel ends the wait at once. The start continues, so that the next caller can use the server.

        Raises:
            MissingLocalModelError: runtime or weights aren't installed.
            ConfigurationError: the weights have the wrong hash, or the port is in use.
            ModelError: the child could not load the model.
        """
        return await asyncio.wrap_future(self._begin())

    def ensure_blocking(self) -> ServerAddress:
        """Return the address of a running server, like `ensure`, but block. For callers without a loop."""
        return self._begin().result()

    @property
    def pid(self) -> int | None:
        """The child's process id, or None if no child is running."""
        process = self._process
        return process.pid if process is not None and process.alive else None

    def stop(self) -> None:
        """Kill the child, even while it loads the model. Blocks for about 50 ms. The next `ensure` starts a new one."""
        with self._lock:
            self._start, process, self._process = None, self._process, None
        if process is not None:
            process.kill()

    def cpu_seconds(self) -> float:
        """Return the CPU seconds that the child has used so far, in steps of 10 ms.

        Raises:
            ModelError: no child is running.
        """
        process = self._process
        if process is None or not process.alive:
            raise ModelError("the local model isn't running, so its CPU time is unknown: call ensure() first")
        return process.cpu_seconds()

    async def wait_idle(self, timeout: float = 10.0, quiet: float = 0.1) -> float:
        """Wait until the child is idle. Return the seconds until it became idle, 0.0 if it was idle already.

        Idle means at most one tick (10 ms) of CPU time within `quiet` seconds. The CPU time is measured, so that the
        result doesn't depend on what the server reports. A child that has ended is idle.

        Raises:
            TimeoutError: the child was not idle within `timeout` seconds.
        """
        begin = since = time.monotonic()
        with contextlib.suppress(ModelError):
            used = self.cpu_seconds()
            while (now := time.monotonic()) - since < quiet:
                if now - begin > timeout:
                    raise TimeoutError(f"the local model was still computing {timeout:g} s later")
                await asyncio.sleep(SAMPLE)
                seen = self.cpu_seconds()
                if seen - used > TICK:
                    since, used = time.monotonic(), seen
        return since - begin

    async def death(self, timeout: float = 1.0) -> str | None:
        """Return how the child died, or None if it is still alive after `timeout` seconds.

        For use after a lost connection: the kernel closes a dying process's sockets before the parent is notified.
        """
        process = self._process
        if process is None:
            return "it was stopped"
        if process.owner != os.getpid():
            return None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await asyncio.wrap_future(process.ended)
        return process.describe_end() if process.ended.done() else None

    def wait_end(self) -> str:
        """Block until the child has ended, and return how it ended."""
        process = self._process
        if process is None:
            return "it was stopped"
        process.ended.result()
        return process.describe_end()

    def _begin(self) -> Future[ServerAddress]:
        with self._lock:
            start = self._start
            if start is None or (start.done() and not self._warm(start)):
                self._start = start = Future()
                start.set_running_or_notify_cancel()  # from now on a waiter can't cancel the future
                threading.Thread(target=self._run, args=(start,), name="desist-local-start", daemon=True).start()
            return start

    def _warm(self, start: Future[ServerAddress]) -> bool:
        return start.exception() is None and self._process is not None and self._process.alive

    def _run(self, start: Future[ServerAddress]) -> None:
        try:
            start.set_result(self._launch(start))
        except BaseException as error:
            start.set_exception(error)

    def _launch(self, start: Future[ServerAddress]) -> ServerAddress:
        refuse_missing_runtime()
        weights = find_weights(self.settings.weights)
        check_weights(weights)
        process = ModelServerProcess(self.settings, weights.path)
        with self._lock:
            wanted = self._start is start
            if wanted:
                self._process = process
        if not wanted:
            process.kill()
        try:
            return process.wait_ready()
        except ModelError:
            if self._start is start:
                raise
            raise ModelError("the local model was stopped while it loaded: try again", retryable=True) from None

    def _reset_after_fork(self) -> None:
        self._lock = threading.Lock()
        if self._process is not None:
            self._process.reset_after_fork()
        self._start = self._process = None


def _after_fork() -> None:
    """Forget the servers of the parent process. A forked process starts its own."""
    global _shared_lock
    _shared_lock = threading.Lock()
    for server in _shared.values():
        server._reset_after_fork()


register_at_fork(after_in_child=_after_fork)
