"""`serve`: the server as a process of its own. It listens, says so, and ends in order when it is told to.

SIGTERM: no new runs (503); those that live may end by themselves until a deadline, then they are cancelled with source
`shutdown`, their ends stored and told; exit code 0. Ctrl-C: the same without the waiting, with source `interrupt`.
A second signal ends the waiting, a third one everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
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

INTERRUPTED = 130
#: Seconds for open connections to end, once all runs have.
CLOSING = 5
#: With room for fewer connections than this, a server can't be used.
FEWEST = 16
#: Loggers that write what strangers send, and what goes wrong with their connections.
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
        host, port: where to listen; port 0 for any that is free.
        secured: whether the application has tokens. Without, any host but this machine's own is refused.
        drain: seconds that live runs may go on after SIGTERM.
        out: where it says where it listens; None for standard error.

    Raises:
        ConfigurationError: it would be open to others without tokens, the port is taken, or the process may open too
            few descriptors.
    """
    if not secured and not is_loopback(host):
        raise ConfigurationError(f"host={host!r} is open to other machines: give tokens, or serve on 127.0.0.1")
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
        for listener in listeners:  # where the start failed; twice is fine
            listener.close()
    return INTERRUPTED if server.interrupted else 0 if server.started else 1


def _connections(limits: Limits) -> tuple[ConnectionTable, str]:
    """Return the table of connections, as many as are wanted or as descriptors allow, and what to say of that."""
    total = limits.connections
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if descriptors != resource.RLIM_INFINITY:
        total = min(total, room_for_connections(descriptors, len(os.listdir("/dev/fd"))))
    if total < min(FEWEST, limits.connections):
        raise ConfigurationError(
            f"{descriptors} open files (ulimit -n) leave room for {max(0, total)} connections: allow at least 256"
        )
    note = f"room for {total} connections, not {limits.connections}: ulimit -n is {descriptors}"
    table = ConnectionTable(total, min(limits.reserved, total // 4), limits.connections_per_address)
    return table, note if total < limits.connections else ""


@contextlib.contextmanager
def _limited_log() -> Iterator[None]:
    """Inside the block, who floods the server doesn't flood its log."""
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
    """uvicorn, but signals drain the runs first."""

    def __init__(
        self, config: uvicorn.Config, active_runs: Any, drain: float, secured: bool, out: TextIO, note: str
    ) -> None:
        super().__init__(config)
        self._active_runs, self._drain, self._secured, self._out, self._note = active_runs, drain, secured, out, note
        self._told = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None
        self.interrupted = False

    async def startup(self, sockets: Any = None) -> None:
        """Listen, and say where."""
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
            print("no tokens: whoever is on this machine may start and stop runs", file=self._out, flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came. Called between two byte codes of whatever the loop is at."""
        self._told += 1
        if self._loop is None or self._told > 2:
            self.should_exit = self.force_exit = True
            return
        self._loop.call_soon_threadsafe(self._leave, sig)

    def _leave(self, sig: int) -> None:
        if self._draining is not None:
            self._active_runs.skip_drain()
            return
        self.interrupted = sig == signal.SIGINT
        self._draining = asyncio.ensure_future(self._end())

    async def _end(self) -> None:
        source, words = (Source.interrupt, "Ctrl-C") if self.interrupted else (Source.shutdown, "SIGTERM")
        try:
            await self._active_runs.drain(0.0 if self.interrupted else self._drain, source, words)
        finally:
            self.should_exit = True
