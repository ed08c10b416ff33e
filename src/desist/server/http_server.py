"""`serve`: run the server in this process until a signal ends it.

SIGTERM: new runs are refused with 503. Live runs may end by themselves for `drain` seconds, then they are cancelled
with source `shutdown`, and their ends are stored and sent. Exit code 0. Ctrl-C: the same without waiting, with source
`interrupt`. A second signal ends the wait, a third one exits at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, TextIO

import uvicorn
from fastapi import FastAPI

from desist.cancel.reason import Source
from desist.exceptions import ConfigurationError
from desist.server.connection_table import ConnectionTable, room_for_connections
from desist.server.http_connection import HttpConnection
from desist.server.listener import listen
from desist.server.log_limit import LogLimit
from desist.server.security_middleware import is_loopback
from desist.server.settings import Limits

__all__ = ["serve"]

INTERRUPTED = 130  #: exit code after Ctrl-C
#: Seconds for open connections to end, after all runs have settled.
CLOSING = 5
#: A server with room for fewer connections than this refuses to start.
FEWEST = 16
#: Loggers whose lines clients can cause: limited by `LogLimit`.
LOGGERS = ("asyncio", "uvicorn.error", "desist.server")


def serve(
    app: FastAPI,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    secured: bool = False,
    drain: float = 30.0,
    out: TextIO | None = None,
) -> int:
    """Serve an application of `create_app` until a signal ends it; return the exit code. Main thread only.

    Parameters:
        host, port: the address to listen on; port 0 for any free port.
        secured: whether the application has tokens. Without tokens, only loopback addresses are allowed.
        drain: seconds that live runs may go on after SIGTERM.
        out: the file for the line with the address; None for standard error.

    Raises:
        ConfigurationError: the host is not a loopback address and there are no tokens, the port is in use, or the
            process may open too few file descriptors.
    """
    if not secured and not is_loopback(host):
        raise ConfigurationError(f"host={host!r} is reachable from other machines: set tokens, or use host='127.0.0.1'")
    out = out or sys.stderr
    limits: Limits = app.state.service.limits
    connections, note = _connections(limits)
    listeners = listen(host, port, connections)
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=HttpConnection.of(connections, limits),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=CLOSING,
    )
    server = _Server(config, app.state.service.active_runs, drain, secured, out, note)
    try:
        with _limited_log():
            server.run(list(listeners))
    finally:
        for listener in listeners:  # after a failed start; a second close does nothing
            listener.close()
    return INTERRUPTED if server.interrupted else 0 if server.started else 1


def _descriptors() -> int | None:
    """Return how many files the system lets this process open; None if it sets no limit."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _connections(limits: Limits) -> tuple[ConnectionTable, str]:
    """Return the connection table, limited by the file descriptors, and a note for the user if there is less room."""
    total, descriptors = limits.connections, _descriptors()
    if descriptors is not None:
        total = min(total, room_for_connections(descriptors, len(os.listdir("/dev/fd"))))
    if total < min(FEWEST, limits.connections):
        raise ConfigurationError(
            f"{descriptors} open files (ulimit -n) leave room for {max(0, total)} connections: "
            "raise ulimit -n to 256 or more"
        )
    note = f"room for {total} connections, not {limits.connections}: ulimit -n is {descriptors}"
    table = ConnectionTable(total, min(limits.reserved, total // 4), limits.connections_per_address)
    return table, note if total < limits.connections else ""


@contextlib.contextmanager
def _limited_log() -> Iterator[None]:
    """Limit log lines inside the block, so that clients can't flood the log."""
    limit = LogLimit()
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addFilter(limit)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(limit)


class _Server(uvicorn.Server):
    """uvicorn's server, but signals drain the runs first."""

    def __init__(
        self, config: uvicorn.Config, active_runs: Any, drain: float, secured: bool, out: TextIO, note: str
    ) -> None:
        super().__init__(config)
        self._active_runs, self._drain, self._secured, self._out, self._note = active_runs, drain, secured, out, note
        self._signals = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None
        self.interrupted = False

    async def startup(self, sockets: Any = None) -> None:
        """Listen, and print the address."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        for server in self.servers:
            for socket in server.sockets:
                host, port = socket.getsockname()[:2]
                shown = f"[{host}]" if ":" in host else host
                print(f"desist serves on http://{shown}:{port}", file=self._out, flush=True)
        if self._note:
            print(self._note, file=self._out, flush=True)
        if not self._secured and self.servers:
            print("no tokens: every user of this machine can start and cancel runs", file=self._out, flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal. Runs in the main thread between two byte codes, possibly inside a loop callback."""
        self._signals += 1
        if self._loop is None or self._signals > 2:
            self.should_exit = self.force_exit = True
            return
        self._loop.call_soon_threadsafe(self._begin_shutdown, sig)

    def _begin_shutdown(self, sig: int) -> None:
        if self._draining is not None:
            self._active_runs.skip_drain()
            return
        self.interrupted = sig == signal.SIGINT
        self._draining = asyncio.ensure_future(self._shutdown_runs())

    async def _shutdown_runs(self) -> None:
        source, text = (Source.interrupt, "Ctrl-C") if self.interrupted else (Source.shutdown, "SIGTERM")
        try:
            await self._active_runs.drain(0.0 if self.interrupted else self._drain, source, text)
        finally:
            self.should_exit = True
