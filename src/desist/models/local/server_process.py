"""`ModelServerProcess`: start, await, measure and kill one child process that runs the local model.

Called by `server`, which decides when to start a child. All functions block and must be called in a thread, unless
their docstring says that they don't.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from desist.exceptions import ConfigurationError, ModelError
from desist.models.local.weights import MODEL_ID

__all__ = ["ModelServerProcess", "ServerAddress", "ServerSettings"]

SLOTS = 2  #: number of concurrent requests; `n_ctx` is split between them
BATCH = 64  #: tokens of a prompt between two checks for a closed connection
READY_SECONDS = 120.0
SCRIPT = Path(__file__).with_name("server_main.py")

_alive: weakref.WeakSet[ModelServerProcess] = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Settings of a server. `LocalServer.shared` returns the same server for equal settings.

    `n_ctx` tokens of context are split between two slots. `port` 0 is any free port; `api_key` None is a random key.
    """

    weights: str | None = None
    n_ctx: int = 8192
    threads: int = 1
    host: str = "127.0.0.1"
    port: int = 0
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.n_ctx < SLOTS * 256:
            raise ConfigurationError(f"n_ctx={self.n_ctx!r} is too small for {SLOTS} slots: use {SLOTS * 256} or more")
        if self.threads < 1:
            raise ConfigurationError(f"threads={self.threads!r} must be 1 or more")

    @property
    def slot_context(self) -> int:
        """Maximum number of tokens of a prompt and its response together."""
        return self.n_ctx // SLOTS


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The URL of a running server, and the API key that it requires."""

    base_url: str
    api_key: str = field(repr=False)


class ModelServerProcess:
    """A child that runs `server_main.py`. Started by the constructor; call `wait_ready` before sending requests."""

    def __init__(self, settings: ServerSettings, weights: Path) -> None:
        """Start the child.

        Raises:
            ConfigurationError: the port is in use.
        """
        if settings.port:
            _require_free_port(settings.host, settings.port)
        self.owner = os.getpid()
        self.ended: Future[int] = Future()  #: resolves to the exit code
        self.ended.set_running_or_notify_cancel()
        self._key = settings.api_key or secrets.token_urlsafe(24)
        self._tail: collections.deque[str] = collections.deque(maxlen=20)
        self._popen = subprocess.Popen(
            [sys.executable, "-P", str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
        _alive.add(self)
        threading.Thread(target=self._watch, name="desist-local-watch", daemon=True).start()
        self._configure(settings, weights)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether the child runs and belongs to this process: false in a forked process. Doesn't block."""
        return self.owner == os.getpid() and not self.ended.done()

    def wait_ready(self, timeout: float = READY_SECONDS) -> ServerAddress:
        """Block until the model is loaded, at most `timeout` seconds, and return the server's address.

        Raises:
            ModelError: the child died, could not load the model, or took too long. The child is killed.
        """
        answer = self._read_line(time.monotonic() + timeout)
        if "address" in answer:
            return ServerAddress(f"{answer['address']}/v1", self._key)
        self.kill()
        raise ModelError(
            f"the local model did not start: {answer.get('error') or self.describe_end()}{self._log_tail()}"
        )

    def kill(self) -> None:
        """Kill the child and wait until it has ended, about 50 ms. Does nothing if the child has ended already."""
        if not self.alive:
            return
        self._popen.kill()
        with contextlib.suppress(TimeoutError):
            self.ended.result(10)

    def cpu_seconds(self) -> float:
        """Return the CPU seconds, user and system, that the child has used. Doesn't block.

        Raises:
            ModelError: the child has ended.
        """
        try:
            times = psutil.Process(self.pid).cpu_times()
        except psutil.Error:
            raise ModelError("the local model's process has ended, so its CPU time is unknown") from None
        return float(times.user + times.system)

    def describe_end(self) -> str:
        """Return how the child ended, with the last lines of its stderr."""
        if not self.ended.done():
            return "it is still running"
        code = self.ended.result()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return f"its process {how}{self._log_tail()}"

    def reset_after_fork(self) -> None:
        """Forget the child in a forked process, because the child belongs to the parent process."""
        self._popen.returncode = 0  # otherwise the destructor would wait for a child of another process
        for pipe in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            if pipe is not None:
                pipe.close()

    def _configure(self, settings: ServerSettings, weights: Path) -> None:
        config = {
            "parent": self.owner,
            "model": MODEL_ID if settings.weights is None else weights.stem,
            "weights": str(weights),
            "n_ctx": settings.n_ctx,
            "threads": settings.threads,
            "slots": SLOTS,
            "batch": BATCH,
            "host": settings.host,
            "port": settings.port,
            "api_key": self._key,
        }
        assert self._popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the child has died already: `wait_ready` raises
            self._popen.stdin.write(json.dumps(config).encode() + b"\n")

    def _watch(self) -> None:
        assert self._popen.stderr is not None
        with contextlib.suppress(OSError, ValueError):
            for line in self._popen.stderr:
                self._tail.append(line[:500].decode(errors="replace").rstrip())
        self.ended.set_result(self._popen.wait())
        _alive.discard(self)
        for pipe in (self._popen.stdin, self._popen.stderr):
            if pipe is not None:
                pipe.close()

    def _read_line(self, deadline: float) -> dict[str, str]:
        """Return the child's one line of JSON, or an empty dict if the child ended without one."""
        assert self._popen.stdout is not None
        received = b""
        with self._popen.stdout as pipe:
            poll = select.poll()
            poll.register(pipe, select.POLLIN)
            while not received.endswith(b"\n"):
                if not poll.poll(max(0, deadline - time.monotonic()) * 1000):
                    return {"error": "the model was not loaded in time"}
                piece = pipe.read(4096)
                if not piece:
                    with contextlib.suppress(TimeoutError):
                        self.ended.result(10)
                    return {}
                received += piece
        answer: dict[str, str] = json.loads(received)
        return answer

    def _log_tail(self) -> str:
        return "".join(f"\n    {line}" for line in self._tail)


def _require_free_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigurationError(f"the local model can't listen on {host}:{port}: {error.strerror}") from None


@atexit.register
def _kill_all() -> None:
    for process in list(_alive):
        process.kill()
