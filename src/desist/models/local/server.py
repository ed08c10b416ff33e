"""The parent's side of the local model: one warm server for all who ask with the same settings.

A server is started by the first who needs it, in a thread of its own, and stays until the program ends or `stop()`.
Whoever is cancelled while it loads leaves it loading: the next caller finds it warm. Called by `chat` and the command
line, from any loop and thread; it must not know of messages.
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

__all__ = ["LocalServer", "ServerAddress", "ServerSettings"]

TICK = 0.011  #: seconds; the kernel counts CPU time in ticks of 10 ms
SAMPLE = 0.02  #: seconds between two looks at the CPU time

_shared: dict[ServerSettings, LocalServer] = {}
_shared_lock = threading.Lock()


class LocalServer:
    """Starts the child when it is needed, and again after it died. Safe to use from any thread and loop."""

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
        """Return the address of a running server; starts one if need be, in about a second.

        A cancel ends the wait at once; the start goes on, and the server is there for the next caller.

        Raises:
            MissingLocalModelError: runtime or weights aren't installed.
            ConfigurationError: the weights are not the known ones, or the port is taken.
            ModelError: the child could not load the model.
        """
        return await asyncio.wrap_future(self._begin())

    def ensure_blocking(self) -> ServerAddress:
        """Like `ensure`, for callers without a loop."""
        return self._begin().result()

    @property
    def pid(self) -> int | None:
        """The child's process id, or None while there is none."""
        process = self._process
        return process.pid if process is not None and process.alive else None

    def stop(self) -> None:
        """Kill the child, loading or not; blocks for some 50 ms. The next `ensure` starts another."""
        with self._lock:
            self._start, process, self._process = None, self._process, None
        if process is not None:
            process.kill()

    def cpu_seconds(self) -> float:
        """Return the CPU seconds that the child has used so far, in steps of 10 ms.

        Raises:
            ModelError: there is no child.
        """
        process = self._process
        if process is None or not process.alive:
            raise ModelError("the local model isn't running, so it has no CPU time")
        return process.cpu_seconds()

    async def wait_idle(self, timeout: float = 10.0, quiet: float = 0.1) -> float:
        """Wait until the child computes nothing; return the seconds until it stopped, 0.0 if it was idle already.

        Idle is at most one tick (10 ms) of CPU time in `quiet` seconds, sampled: the proof of a cancel doesn't ask
        the server, it measures it. A child that is gone is idle.

        Raises:
            TimeoutError: it was still computing after `timeout` seconds.
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
        """Say how the child died, or return None if it lives `timeout` seconds from now.

        After a lost connection: the kernel closes a dying process's sockets before its parent hears of the death.
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
        """Block until the child is gone, and say how it ended."""
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
                start.set_running_or_notify_cancel()  # from here on a waiter's cancel can't end it
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
            raise ModelError("the local model was stopped while it loaded", retryable=True) from None

    def _reset_after_fork(self) -> None:
        self._lock = threading.Lock()
        if self._process is not None:
            self._process.reset_after_fork()
        self._start = self._process = None


def _after_fork() -> None:
    """Leave the children to the parent; whoever was forked off starts its own."""
    global _shared_lock
    _shared_lock = threading.Lock()
    for server in _shared.values():
        server._reset_after_fork()


os.register_at_fork(after_in_child=_after_fork)
